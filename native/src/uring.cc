#include "uring.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace pcache {
namespace {

uint32_t load(const uint32_t* word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
void store(uint32_t* word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

uint8_t* map_ring(int fd, size_t bytes, int64_t offset) {
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
  return memory == MAP_FAILED ? nullptr : static_cast<uint8_t*>(memory);
}

}  // namespace

int Uring::open(uint32_t entries, bool is_wide) {
  params_.flags = abi::kSetupCoopTaskrun | (is_wide ? abi::kSetupSqe128 : 0);
  fd_ = static_cast<int>(syscall(abi::kIoUringSetup, entries, &params_));
  if (fd_ < 0) return errno;
  if ((params_.features & abi::kFeatureSingleMmap) == 0) return ENOSYS;
  entry_bytes_ = sizeof(abi::Submission) * (is_wide ? 2 : 1);
  entries_bytes_ = entry_bytes_ * params_.sq_entries;
  rings_bytes_ = std::max<size_t>(params_.sq.array + params_.sq_entries * sizeof(uint32_t),
                                  params_.cq.entries + params_.cq_entries * sizeof(abi::Completion));
  rings_ = map_ring(fd_, rings_bytes_, abi::kOffsetRings);
  if (rings_ == nullptr) return errno;
  entries_ = map_ring(fd_, entries_bytes_, abi::kOffsetEntries);
  return entries_ == nullptr ? errno : 0;
}

Uring::~Uring() {
  if (entries_ != nullptr) munmap(entries_, entries_bytes_);
  if (rings_ != nullptr) munmap(rings_, rings_bytes_);
  if (fd_ >= 0) close(fd_);
}

int Uring::signal_on(int event_fd) {
  return syscall(abi::kIoUringRegister, fd_, abi::kRegisterEventfd, &event_fd, 1) < 0 ? errno : 0;
}

abi::Submission* Uring::next() {
  uint32_t* const tail = word(params_.sq.tail);
  const uint32_t at = (*tail + pending_) & *word(params_.sq.ring_mask);
  pending_++;
  word(params_.sq.array)[at] = at;
  uint8_t* const entry = entries_ + at * entry_bytes_;
  memset(entry, 0, entry_bytes_);
  return reinterpret_cast<abi::Submission*>(entry);
}

int Uring::submit(uint32_t wait) {
  store(word(params_.sq.tail), *word(params_.sq.tail) + pending_);
  uint32_t left = pending_;
  pending_ = 0;
  while (left > 0 || wait > 0) {
    const long taken = syscall(abi::kIoUringEnter, fd_, left, wait, wait > 0 ? abi::kEnterGetEvents : 0, nullptr, 0);
    if (taken < 0 && errno != EINTR && errno != EAGAIN) return errno;
    if (taken > 0) left -= static_cast<uint32_t>(taken);
    if (left == 0 && load(word(params_.cq.tail)) - *word(params_.cq.head) >= wait) break;
  }
  return 0;
}

bool Uring::take(abi::Completion* completion) {
  uint32_t* const head = word(params_.cq.head);
  if (*head == load(word(params_.cq.tail))) return false;
  const uint8_t* const entries = rings_ + params_.cq.entries;
  memcpy(completion, entries + (*head & *word(params_.cq.ring_mask)) * sizeof(abi::Completion), sizeof(abi::Completion));
  store(head, *head + 1);
  return true;
}

}  // namespace pcache
