// CRCs of many ranges of a mapping, by several threads, while JavaScript goes on.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "guard.h"
#include "mapping.h"

namespace pcache {

// Ranges whose CRCs are asked for together. The columns are JavaScript memory, which `keep` keeps; they were checked,
// and are not to be touched until the run has ended.
struct CrcRun {
  CrcRun(const Mapping& mapping, const double* offsets, const uint32_t* lengths, uint32_t* crcs, uint32_t count,
         uint32_t seed)
      : mapping(mapping), offsets(offsets), lengths(lengths), crcs(crcs), count(count), seed(seed) {}

  void keep(Napi::ObjectReference column) { columns.push_back(std::move(column)); }

  const Mapping& mapping;
  const double* const offsets;
  const uint32_t* const lengths;
  uint32_t* const crcs;
  const uint32_t count;
  const uint32_t seed;
  std::vector<Napi::ObjectReference> columns;
  // What follows is the queue's, under its lock. The next range nobody has taken, and how many threads are at work.
  uint32_t next = 0;
  uint32_t busy = 0;
  // After a fault the rest is left undone.
  bool good = true;
  FaultGuard fault;
};

// Runs in the order in which they were begun. Its threads do them one after the other; they stay until it goes, and
// sleep while there is nothing to do.
class CrcQueue {
 public:
  static constexpr size_t kRunsMax = 8;

  CrcQueue() = default;
  ~CrcQueue();
  CrcQueue(const CrcQueue&) = delete;
  CrcQueue& operator=(const CrcQueue&) = delete;

  bool is_empty() const { return runs_.empty(); }
  bool is_full() const { return runs_.size() == kRunsMax; }
  // `threads` counts the caller's, which comes to help in `end`. Not when it is full.
  void begin(std::unique_ptr<CrcRun> run, uint32_t threads);
  // Does what is left of the oldest, and waits for the rest. Not when it is empty.
  std::unique_ptr<CrcRun> end();
  // Forgets all that belong to a mapping, which may go then.
  void drop(const Mapping* mapping);

 private:
  // Ranges that a thread takes at a time.
  static constexpr uint32_t kPiece = 64;

  void work();
  // Takes a piece of a run and does it. False when nothing of it is left to take.
  bool do_piece(std::unique_lock<std::mutex>& lock, CrcRun& run);
  void await(std::unique_lock<std::mutex>& lock, const CrcRun& run);

  // Changed by the caller's thread only, under the lock.
  std::deque<std::unique_ptr<CrcRun>> runs_;
  std::mutex mutex_;
  std::condition_variable begun_, ended_;
  bool is_stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace pcache
