// What the calls for block devices share: threads of their own, and callbacks from them. The pool of the runtime may be
// full of reads of a device that does not answer, so nothing that has to end waits for a place in it.
#pragma once

#include <csignal>
#include <fcntl.h>
#include <napi.h>
#include <pthread.h>
#include <thread>
#include <unistd.h>

namespace pcache {

// A duplicate for a thread: the caller may close its own meanwhile, and its number may then name another file.
class OwnFd {
 public:
  explicit OwnFd(int fd) : fd_(fcntl(fd, F_DUPFD_CLOEXEC, 0)) {}
  OwnFd(OwnFd&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  ~OwnFd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

inline Napi::ThreadSafeFunction callback_argument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  return Napi::ThreadSafeFunction::New(info.Env(), info[index].As<Napi::Function>(), name, 0, 1);
}

// A thread that no signal reaches: one would end a system call that waits.
template <typename Body>
void run_undisturbed(Body body) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread(std::move(body)).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace pcache
