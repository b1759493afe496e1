#include "crc_run.h"

#include <algorithm>
#include <system_error>

#include "cpu.h"

namespace pcache {
namespace {

// Returns false after a fault, whose address is then in `guard`.
bool take_crcs(const CrcRun& run, uint32_t from, uint32_t end, FaultGuard& guard) {
  const auto at = [&run](uint32_t i) { return run.mapping.base() + static_cast<uint64_t>(run.offsets[i]); };
  auto body = [&] {
    for (uint32_t i = from; i < end; i++) {
      // Prefetches the start of the next range; the processor's own prefetcher follows from there.
      if (i + 1 < end) {
        for (size_t line = 0; line < 4; line++) __builtin_prefetch(at(i + 1) + 64 * line);
      }
      run.crcs[i] = kernels().crc32c(run.seed, at(i), run.lengths[i]);
    }
  };
  return guarded(guard, run.mapping.base(), run.mapping.size_bytes(), body);
}

}  // namespace

CrcQueue::~CrcQueue() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_stopping_ = true;
  }
  begun_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void CrcQueue::begin(std::unique_ptr<CrcRun> run, uint32_t threads) {
  while (threads_.size() + 1 < threads) {
    try {
      threads_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      break;  // the system gives no more threads; fewer do the work
    }
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    runs_.push_back(std::move(run));
  }
  begun_.notify_all();
}

std::unique_ptr<CrcRun> CrcQueue::end() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (do_share(lock, *runs_.front())) {
  }
  await(lock, *runs_.front());
  std::unique_ptr<CrcRun> run = std::move(runs_.front());
  runs_.pop_front();
  return run;
}

void CrcQueue::drop(const Mapping* mapping) {
  std::unique_lock<std::mutex> lock(mutex_);
  for (auto at = runs_.begin(); at != runs_.end();) {
    if (&(*at)->mapping != mapping) {
      ++at;
      continue;
    }
    (*at)->next = (*at)->count;
    await(lock, **at);
    at = runs_.erase(at);
  }
}

void CrcQueue::await(std::unique_lock<std::mutex>& lock, const CrcRun& run) {
  ended_.wait(lock, [&run] { return run.busy == 0; });
}

bool CrcQueue::do_share(std::unique_lock<std::mutex>& lock, CrcRun& run) {
  if (run.next == run.count) return false;
  const uint32_t from = run.next;
  const uint32_t end = run.next = std::min(run.count, from + kShare);
  run.busy++;
  lock.unlock();
  FaultGuard guard;
  const bool good = take_crcs(run, from, end, guard);
  lock.lock();
  if (!good) {
    run.good = false;
    run.fault.address = guard.address;
    run.fault.code = guard.code;
    run.next = run.count;
  }
  if (--run.busy == 0 && run.next == run.count) ended_.notify_all();
  return true;
}

void CrcQueue::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!is_stopping_) {
    bool worked = false;
    for (size_t i = 0; i < runs_.size() && !worked; i++) worked = do_share(lock, *runs_[i]);
    if (!worked) begun_.wait(lock);
  }
}

}  // namespace pcache
