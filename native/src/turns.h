// Taking turns on a processor. Where there are fewer processors than busy threads, a server's thread and the one that
// writes back share one. Left alone they change over after some hundred microseconds: too long for a client, which then
// has an answer to nothing and stands idle too. So each of them gives way to the other after a little work.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <sched.h>

namespace pcache {

// Threads of this process that are writing a file now.
inline std::atomic<int> writers_at_work{0};

// Lets another thread have this processor, if one waits for it. A thread that then waits long for its next turn, and
// again the next time, gives way to some other program, which knows nothing of turns: it stops being polite for a while.
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

// The work of a thread that writes a file, in turns.
class WritersTurns {
 public:
  WritersTurns() { writers_at_work.fetch_add(1, std::memory_order_relaxed); }
  ~WritersTurns() { writers_at_work.fetch_sub(1, std::memory_order_relaxed); }
  WritersTurns(const WritersTurns&) = delete;
  WritersTurns& operator=(const WritersTurns&) = delete;

  // To be told of each write.
  void wrote(size_t bytes) {
    done_ += bytes < kLeast ? kLeast : bytes;
    if (done_ < kTurn) return;
    done_ = 0;
    give_way();
  }

 private:
  // A turn is so many bytes, and a write takes the time of at least so many.
  static constexpr size_t kTurn = 48 * 1024, kLeast = 4096;
  size_t done_ = 0;
};

}  // namespace pcache
