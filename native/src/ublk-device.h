// The kernel's ublk driver (drivers/block/ublk_drv.c): its control commands, and queue 0 of a device. What is used of its
// ABI is in ublk-abi.h.
#pragma once

#include <napi.h>

namespace pcache {

// ublkControl(op, device, queue, data, buffer | undefined, done(result, buffer)): sends a control command in a thread of
// its own. `result` is negative for an errno; `buffer` is a copy of the given one as the kernel left it.
void ublk_control(const Napi::CallbackInfo& info);
// ublkServe(fd, columns, memory, maxBytes, isEncoded, take(count), ended(errno)) → { commit(count), close() }: serves
// queue 0 of a device whose /dev/ublkcN is open, on the calling thread. See `UblkColumns` in
// src/engine/device/native.ts.
Napi::Value ublk_serve(const Napi::CallbackInfo& info);

}  // namespace pcache
