// What a long-running process needs of the system and Node does not offer: telling a service manager how it does, and
// giving a file descriptor to another file.
#pragma once

#include <napi.h>

namespace pcache {

// notifyService(address, text) → false when the receiver takes nothing now. Sends a datagram (sd_notify(3)).
// `address`: a path, or "@name" for an abstract socket.
Napi::Value notify_service(const Napi::CallbackInfo& info);
// redirect(from, to): from now on the number `from` names the open file `to` (dup2(2)).
void redirect(const Napi::CallbackInfo& info);
// duplicate(fd) → another number for the open file, closed in programs that are started.
Napi::Value duplicate(const Napi::CallbackInfo& info);

}  // namespace pcache
