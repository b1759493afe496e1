#include "nbd-device.h"

#include <cerrno>
#include <linux/nbd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "device-thread.h"
#include "errors.h"

namespace pcache {
namespace {

constexpr int kConnectionsMax = 16;

int fd_argument(const Napi::CallbackInfo& info) { return info[0].As<Napi::Number>().Int32Value(); }

void report(Napi::ThreadSafeFunction& callback, int error) {
  callback.BlockingCall([error](Napi::Env env, Napi::Function function) { function.Call({Napi::Number::New(env, error)}); });
  callback.Release();
}

}  // namespace

Napi::Value nbd_take(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = fd_argument(info);
  const int connections = info[1].As<Napi::Number>().Int32Value();
  if (connections < 1 || connections > kConnectionsMax) throw coded_error(env, "INVALID", "1 to 16 connections are possible");
  Napi::Array ends = Napi::Array::New(env);
  int given[kConnectionsMax];
  for (int i = 0; i < connections; i++) {
    int pair[2];
    int error = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0 ? errno : 0;
    if (error == 0) {
      if (ioctl(fd, NBD_SET_SOCK, static_cast<unsigned long>(pair[1])) != 0) error = errno;
      close(pair[1]);  // the kernel has a reference of its own
      if (error != 0) close(pair[0]);
    }
    if (error != 0) {
      for (int k = 0; k < i; k++) close(given[k]);
      if (i > 0) ioctl(fd, NBD_CLEAR_SOCK);
      throw errno_error(env, "NBD_SET_SOCK", error);
    }
    given[i] = pair[0];
    ends.Set(static_cast<uint32_t>(i), Napi::Number::New(env, pair[0]));
  }
  return ends;
}

void nbd_run(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = fd_argument(info);
  const auto number = [&](size_t index) { return static_cast<unsigned long>(info[index].As<Napi::Number>().Int64Value()); };
  const std::pair<unsigned long, const char*> settings[] = {
      {NBD_SET_BLKSIZE, "NBD_SET_BLKSIZE"},
      {NBD_SET_SIZE_BLOCKS, "NBD_SET_SIZE_BLOCKS"},
      {NBD_SET_FLAGS, "NBD_SET_FLAGS"},
      {NBD_SET_TIMEOUT, "NBD_SET_TIMEOUT"},
  };
  size_t argument = 1;
  for (const auto& [request, name] : settings) {
    if (ioctl(fd, request, number(argument++)) != 0) throw errno_error(env, name, errno);
  }
  auto ended = callback_argument(info, 5, "nbdRun");
  run_undisturbed([own = OwnFd(fd), ended]() mutable {
    const int error = ioctl(own.get(), NBD_DO_IT) != 0 ? errno : 0;
    ioctl(own.get(), NBD_CLEAR_QUE);
    ioctl(own.get(), NBD_CLEAR_SOCK);
    report(ended, error);
  });
}

void nbd_disconnect(const Napi::CallbackInfo& info) {
  const int fd = fd_argument(info);
  auto done = callback_argument(info, 1, "nbdDisconnect");
  run_undisturbed([own = OwnFd(fd), done]() mutable {
    report(done, ioctl(own.get(), NBD_DISCONNECT) != 0 ? errno : 0);
  });
}

void nbd_clear(const Napi::CallbackInfo& info) { ioctl(fd_argument(info), NBD_CLEAR_SOCK); }

}  // namespace pcache
