// CRCs of many ranges of a mapping, by several threads, while JavaScript goes on.
#pragma once

#include <napi.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "guard.h"
#include "mapping.h"

namespace pcache {

// The columns are JavaScript memory, which `keep` keeps; they were checked, and are not to be touched between
// `begin` and `end`. Whoever destroys it earlier waits for the threads.
class CrcRun {
 public:
  CrcRun(const Mapping& mapping, const double* offsets, const uint32_t* lengths, uint32_t* crcs, uint32_t count,
         uint32_t seed)
      : mapping_(mapping), offsets_(offsets), lengths_(lengths), crcs_(crcs), count_(count), seed_(seed) {}
  ~CrcRun() { join(); }

  const Mapping& mapping() const { return mapping_; }
  void keep(Napi::ObjectReference column) { columns_.push_back(std::move(column)); }

  // Starts all threads but the caller's, which comes to help in `end`.
  void begin(uint32_t threads);
  // Does what is left, and waits for the rest. False after a fault; `guard` then says where.
  bool end(FaultGuard* guard);

 private:
  // Ranges that a thread takes at a time.
  static constexpr uint32_t kPiece = 64;

  void work(size_t worker);
  void join();
  const uint8_t* at(uint32_t i) const { return mapping_.base() + static_cast<uint64_t>(offsets_[i]); }

  const Mapping& mapping_;
  const double* offsets_;
  const uint32_t* lengths_;
  uint32_t* crcs_;
  const uint32_t count_;
  const uint32_t seed_;
  std::atomic<uint32_t> next_{0};
  std::vector<std::thread> threads_;
  // Of each worker; the caller is the first.
  std::vector<FaultGuard> guards_;
  std::vector<char> good_;
  std::vector<Napi::ObjectReference> columns_;
};

}  // namespace pcache
