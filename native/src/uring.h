// An io_uring instance for commands (uring_cmd) to drivers, by raw system calls. Used by one thread.
#pragma once

#include <cstdint>

#include "ublk-abi.h"

namespace pcache {

class Uring {
 public:
  Uring() = default;
  ~Uring();
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;

  // `entries` a power of two. Returns 0 or an errno: ENOSYS or EPERM where the system has no io_uring for us.
  int open(uint32_t entries, bool is_wide);
  int fd() const { return fd_; }
  // Has completions signalled on an eventfd. Returns 0 or an errno.
  int signal_on(int event_fd);
  // A zeroed entry; at most `entries` between two calls of `submit`.
  abi::Submission* next();
  // Submits what `next` gave, and waits for that many completions. Returns 0 or an errno.
  int submit(uint32_t wait);
  // Takes a completion that is there.
  bool take(abi::Completion* completion);

 private:
  int fd_ = -1;
  uint8_t* rings_ = nullptr;
  uint8_t* entries_ = nullptr;
  size_t rings_bytes_ = 0, entries_bytes_ = 0, entry_bytes_ = 0;
  abi::RingParams params_ = {};
  uint32_t pending_ = 0;

  uint32_t* word(uint32_t offset) const { return reinterpret_cast<uint32_t*>(rings_ + offset); }
};

}  // namespace pcache
