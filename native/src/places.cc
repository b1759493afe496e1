#include "places.h"

#include <algorithm>

namespace pcache {
namespace {

// As in slab.ts and extent-index.ts.
constexpr size_t kEntryWords = 3;
constexpr size_t kChunkWords = 6;
constexpr int kStartShift = 19;
constexpr int kSubtreeSectorsShift = 13;
constexpr uint32_t kCountMask = 0xffff;

// Searches that go on side by side.
constexpr size_t kAbreast = 64;
// Entries looked at one by one around the last guess.
constexpr int kSteps = 24;

}  // namespace

PlaceSearch::PlaceSearch(const IndexMemory& index, int32_t subtree, int32_t sector) : index_(&index), sector_(sector) {
  if (subtree < 0 || static_cast<size_t>(subtree) >= index.subtree_count) return;
  subtree_ = index.subtrees + static_cast<size_t>(subtree) * 2;
  __builtin_prefetch(subtree_);
}

inline int32_t PlaceSearch::start(int32_t i) const {
  return static_cast<int32_t>(static_cast<uint32_t>(entries_[i * kEntryWords]) >> kStartShift);
}

void PlaceSearch::guess() {
  if (subtree_ == nullptr) return;
  const size_t base = static_cast<uint32_t>(subtree_[0]) * kChunkWords;
  const size_t count = static_cast<uint32_t>(subtree_[1]) & kCountMask;
  if (count == 0 || base + count * kEntryWords > index_->word_count) return;
  entries_ = index_->words + base;
  count_ = static_cast<int32_t>(count);
  at_ = std::min(static_cast<int32_t>((static_cast<uint32_t>(sector_) * count) >> kSubtreeSectorsShift), count_ - 1);
  __builtin_prefetch(entries_ + at_ * kEntryWords);
}

void PlaceSearch::correct() {
  if (count_ == 0) return;
  const int32_t off = ((sector_ - start(at_)) * count_) >> kSubtreeSectorsShift;
  at_ = std::clamp(at_ + off, 0, count_ - 1);
  __builtin_prefetch(entries_ + at_ * kEntryWords);
}

int32_t PlaceSearch::finish() {
  if (count_ == 0) return 0;
  int32_t at = at_;
  int steps = kSteps;
  if (start(at) <= sector_) {
    for (at++; at < count_ && start(at) <= sector_ && steps > 0; steps--) at++;
  } else {
    for (; at > 0 && start(at - 1) > sector_ && steps > 0; steps--) at--;
  }
  return at;
}

void find_places(const IndexMemory& index, const int32_t* subtrees, const uint16_t* sectors, size_t count, int32_t* places) {
  PlaceSearch searches[kAbreast];
  for (size_t from = 0; from < count; from += kAbreast) {
    const size_t some = std::min(count - from, kAbreast);
    for (size_t i = 0; i < some; i++) searches[i] = PlaceSearch(index, subtrees[from + i], sectors[from + i]);
    for (size_t i = 0; i < some; i++) searches[i].guess();
    for (size_t i = 0; i < some; i++) searches[i].correct();
    for (size_t i = 0; i < some; i++) places[from + i] = searches[i].finish();
  }
}

}  // namespace pcache
