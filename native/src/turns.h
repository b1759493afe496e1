// Taking turns on a processor. With fewer processors than busy threads, the thread that serves requests and the thread
// that writes back share one. The scheduler alone switches between them after some hundred microseconds; meanwhile the
// clients get no replies and stand idle. So each thread yields to the other after a little work.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <sched.h>

namespace pcache {

// Threads of this process that are writing a file now.
inline std::atomic<int> writers_at_work{0};

// Yields the processor to another thread that waits for it. If a thread then waits long for its next turn, twice in a
// row, another program has taken the processor, which does not yield in return: the thread stops yielding for a while.
inline void give_way() {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::milliseconds kLong{1}, kPause{200};
  constexpr int kLongInARow = 2;
  thread_local Clock::time_point not_before{};
  thread_local int long_in_a_row = 0;
  const auto start = Clock::now();
  if (start < not_before) return;
  sched_yield();
  const auto end = Clock::now();
  long_in_a_row = end - start > kLong ? long_in_a_row + 1 : 0;
  if (long_in_a_row < kLongInARow) return;
  long_in_a_row = 0;
  not_before = end + kPause;
}

// Makes a thread that writes a file yield after every turn.
class WritersTurns {
 public:
  WritersTurns() { writers_at_work.fetch_add(1, std::memory_order_relaxed); }
  ~WritersTurns() { writers_at_work.fetch_sub(1, std::memory_order_relaxed); }
  WritersTurns(const WritersTurns&) = delete;
  WritersTurns& operator=(const WritersTurns&) = delete;

  // Call after each write.
  void wrote(size_t bytes) {
    done_ += bytes < kLeast ? kLeast : bytes;
    if (done_ < kTurn) return;
    done_ = 0;
    give_way();
  }

 private:
  // Bytes written per turn; a shorter write counts as `kLeast`, whose time it takes.
  static constexpr size_t kTurn = 48 * 1024, kLeast = 4096;
  size_t done_ = 0;
};

}  // namespace pcache
