#include "crc_run.h"

#include <algorithm>
#include <system_error>

#include "cpu.h"

namespace pcache {

void CrcRun::begin(uint32_t threads) {
  guards_.resize(threads);
  good_.assign(threads, 1);
  threads_.reserve(threads);
  for (uint32_t n = 1; n < threads; n++) {
    try {
      threads_.emplace_back([this, n] { work(n); });
    } catch (const std::system_error&) {
      break;  // No thread to be had: fewer do it.
    }
  }
}

bool CrcRun::end(FaultGuard* guard) {
  work(0);
  join();
  for (size_t n = 0; n < good_.size(); n++) {
    if (good_[n]) continue;
    guard->address = guards_[n].address;
    guard->code = guards_[n].code;
    return false;
  }
  return true;
}

void CrcRun::join() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void CrcRun::work(size_t worker) {
  auto body = [this] {
    for (uint32_t from; (from = next_.fetch_add(kPiece, std::memory_order_relaxed)) < count_;) {
      const uint32_t end = std::min(count_, from + kPiece);
      for (uint32_t i = from; i < end; i++) {
        // The beginning of the next; the processor sees to its rest by itself.
        if (i + 1 < end) {
          for (size_t line = 0; line < 4; line++) __builtin_prefetch(at(i + 1) + 64 * line);
        }
        crcs_[i] = kernels().crc32c(seed_, at(i), lengths_[i]);
      }
    }
  };
  good_[worker] = guarded(guards_[worker], mapping_.base(), mapping_.size_bytes(), body);
}

}  // namespace pcache
