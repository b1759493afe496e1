// The kernel's NBD client (drivers/block/nbd.c), driven through the ioctls of <linux/nbd.h>. The kernel
// disconnects a device set up this way when the process ends, even when it is killed.
#pragma once

#include <napi.h>

namespace pcache {

// nbdTake(fd, connections) → file descriptors of the server's ends. Gives the device that many Unix sockets, which
// reserves it for the calling thread (NBD_SET_SOCK; EBUSY when another process has it).
Napi::Value nbd_take(const Napi::CallbackInfo& info);
// nbdRun(fd, blockBytes, blocks, flags, timeoutSeconds, ended(errno)): sets the device up and runs it (NBD_DO_IT) in a
// thread until it is disconnected. `flags` are the transmission flags of the NBD protocol.
void nbd_run(const Napi::CallbackInfo& info);
// nbdDisconnect(fd, done(errno)): asks a running device to end, off the main thread, because the kernel sends on the
// sockets that the main thread reads (NBD_DISCONNECT).
void nbd_disconnect(const Napi::CallbackInfo& info);
// nbdClear(fd): gives up a device that was taken and is not running (NBD_CLEAR_SOCK).
void nbd_clear(const Napi::CallbackInfo& info);

}  // namespace pcache
