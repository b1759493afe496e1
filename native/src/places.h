// Searches of sorted arrays in the memory of an extent index (src/engine/index/entry-table.ts).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace pcache {

// The memory of an extent index, as JavaScript laid it out.
struct IndexMemory {
  const int32_t* words = nullptr;
  size_t word_count = 0;
  // Two words a subtree: its chunk, and its entries in the low 16 bits. Subtrees are in groups.
  const int32_t* subtrees = nullptr;
  size_t subtree_words = 0;
  // Where in `subtrees` each group begins.
  const int32_t* groups = nullptr;
  size_t group_count = 0;
};

// How many entries of a subtree start at or before a sector, in steps: each asks for memory that the next one needs,
// so that other work, or other searches, can go on while it comes. The result is where to look first, and nothing
// more: whoever uses it checks it. Outside the index it is 0.
class PlaceSearch {
 public:
  PlaceSearch() {}  // says nothing, and costs nothing
  PlaceSearch(const IndexMemory& index, int32_t subtree, int32_t sector);

  // First where it would be if the entries were spread evenly,
  void guess(const IndexMemory& index);
  // then as far from there as the entry found says,
  void correct();
  // and from there one by one, a few.
  int32_t finish();

 private:
  // As in slab.ts and entry-table.ts.
  static constexpr size_t kEntryWords = 3;
  static constexpr size_t kChunkWords = 6;
  static constexpr int kLineWords = 16;
  static constexpr int kGroupShift = 7;
  static constexpr uint32_t kGroupMask = (1 << kGroupShift) - 1;
  static constexpr int kStartShift = 19;
  static constexpr int kSubtreeSectorsShift = 13;
  static constexpr uint32_t kCountMask = 0xffff;
  // Entries looked at one by one around the last guess.
  static constexpr int kSteps = 24;

  int32_t start(int32_t i) const;

  // Two words of the index's `subtrees`; null outside.
  const int32_t* subtree_;
  const int32_t* entries_;
  int32_t sector_;
  int32_t count_;
  int32_t at_;
};

inline PlaceSearch::PlaceSearch(const IndexMemory& index, int32_t subtree, int32_t sector) : subtree_(nullptr), sector_(sector), count_(0) {
  const size_t group = static_cast<uint32_t>(subtree) >> kGroupShift;
  if (group >= index.group_count) return;
  const size_t at = static_cast<uint32_t>(index.groups[group]) + (static_cast<uint32_t>(subtree) & kGroupMask) * 2;
  if (at + 1 >= index.subtree_words) return;
  subtree_ = index.subtrees + at;
  __builtin_prefetch(subtree_);
}

inline int32_t PlaceSearch::start(int32_t i) const {
  return static_cast<int32_t>(static_cast<uint32_t>(entries_[i * kEntryWords]) >> kStartShift);
}

inline void PlaceSearch::guess(const IndexMemory& index) {
  if (subtree_ == nullptr) return;
  const size_t base = static_cast<uint32_t>(subtree_[0]) * kChunkWords;
  const size_t count = static_cast<uint32_t>(subtree_[1]) & kCountMask;
  if (count == 0 || base + count * kEntryWords > index.word_count) return;
  entries_ = index.words + base;
  count_ = static_cast<int32_t>(count);
  at_ = std::min(static_cast<int32_t>((static_cast<uint32_t>(sector_) * count) >> kSubtreeSectorsShift), count_ - 1);
  // The guess is off by some entries: they may lie in the lines before or behind.
  for (int line = -1; line <= 1; line++) __builtin_prefetch(entries_ + at_ * kEntryWords + line * kLineWords);
}

inline void PlaceSearch::correct() {
  if (count_ == 0) return;
  const int32_t off = ((sector_ - start(at_)) * count_) >> kSubtreeSectorsShift;
  at_ = std::clamp(at_ + off, 0, count_ - 1);
  __builtin_prefetch(entries_ + at_ * kEntryWords);
}

inline int32_t PlaceSearch::finish() {
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

// Many searches side by side, into `places`.
void find_places(const IndexMemory& index, const int32_t* subtrees, const uint16_t* sectors, size_t count, int32_t* places);

}  // namespace pcache
