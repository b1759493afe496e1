// CRCs of many ranges of a mapping, computed by several threads while JavaScript goes on.
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

// Ranges whose CRCs are computed together. The columns are JavaScript memory, which `keep` keeps alive; the caller has
// checked their contents and leaves them untouched until the run has ended.
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
  // The members below belong to the queue, under its lock: the next free range, and the number of threads at work.
  uint32_t next = 0;
  uint32_t busy = 0;
  // False after a fault: the rest of the run is not computed.
  bool good = true;
  FaultGuard fault;
};

// Runs in the order in which they began. The threads compute one run after the other. They sleep while there is nothing
// to do, and live as long as the queue.
class CrcQueue {
 public:
  static constexpr size_t kRunsMax = 8;

  CrcQueue() = default;
  ~CrcQueue();
  CrcQueue(const CrcQueue&) = delete;
  CrcQueue& operator=(const CrcQueue&) = delete;

  bool is_empty() const { return runs_.empty(); }
  bool is_full() const { return runs_.size() == kRunsMax; }
  // `threads` includes the caller's, which helps in `end`. The queue must not be full.
  void begin(std::unique_ptr<CrcRun> run, uint32_t threads);
  // Helps with the oldest run and waits for its end. The queue must not be empty.
  std::unique_ptr<CrcRun> end();
  // Drops all runs of a mapping, which may then be unmapped.
  void drop(const Mapping* mapping);

 private:
  // Number of ranges that a thread takes at a time.
  static constexpr uint32_t kShare = 64;

  void work();
  // Takes a share of a run and computes it. Returns false when no range of the run is free.
  bool do_share(std::unique_lock<std::mutex>& lock, CrcRun& run);
  void await(std::unique_lock<std::mutex>& lock, const CrcRun& run);

  // Only the caller's thread changes it, under the lock.
  std::deque<std::unique_ptr<CrcRun>> runs_;
  std::mutex mutex_;
  std::condition_variable begun_, ended_;
  bool is_stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace pcache
