// Searches of sorted arrays in the memory of an extent index (src/engine/index/entry-table.ts).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace pcache {

// The memory of an extent index, in the layout of the JavaScript side.
struct IndexMemory {
  const int32_t* words = nullptr;
  size_t word_count = 0;
  // Two words a subtree: its chunk, then its entry count in the low 16 bits. Subtrees lie in groups.
  const int32_t* subtrees = nullptr;
  size_t subtree_words = 0;
  // Offset in `subtrees` of each group's words.
  const int32_t* groups = nullptr;
  size_t group_count = 0;
};

// Finds the number of entries of a subtree that start at or before a sector, in steps. Each step prefetches the memory
// that the next one needs, so that other work, or other searches, can run meanwhile. The result is only a hint: the
// caller checks it. It is 0 outside the index.
class HintSearch {
 public:
  HintSearch() {}  // leaves all members uninitialised, so that an array of them costs nothing
  HintSearch(const IndexMemory& index, int32_t subtree, int32_t sector);

  // Step 1: the index of the entry if entries were spread evenly.
  void guess(const IndexMemory& index);
  // Step 2: corrects the guess by the distance of the entry found there.
  void correct();
  // Step 3: goes on entry by entry, a few.
  int32_t finish();

 private:
  // The values of slab.ts and entry-table.ts.
  static constexpr size_t kEntryWords = 3;
  static constexpr size_t kChunkWords = 6;
  static constexpr int kLineWords = 16;
  static constexpr int kGroupShift = 7;
  static constexpr uint32_t kGroupMask = (1 << kGroupShift) - 1;
  static constexpr int kStartShift = 19;
  static constexpr int kSubtreeSectorsShift = 13;
  static constexpr uint32_t kCountMask = 0xffff;
  // Maximum number of entries that `finish` visits.
  static constexpr int kSteps = 24;

  int32_t start(int32_t i) const;

  // The two words in the index's `subtrees`; null outside the index.
  const int32_t* subtree_;
  const int32_t* entries_;
  int32_t sector_;
  int32_t count_;
  int32_t at_;
};

inline HintSearch::HintSearch(const IndexMemory& index, int32_t subtree, int32_t sector) : subtree_(nullptr), sector_(sector), count_(0) {
  const size_t group = static_cast<uint32_t>(subtree) >> kGroupShift;
  if (group >= index.group_count) return;
  const size_t at = static_cast<uint32_t>(index.groups[group]) + (static_cast<uint32_t>(subtree) & kGroupMask) * 2;
  if (at + 1 >= index.subtree_words) return;
  subtree_ = index.subtrees + at;
  __builtin_prefetch(subtree_);
}

inline int32_t HintSearch::start(int32_t i) const {
  return static_cast<int32_t>(static_cast<uint32_t>(entries_[i * kEntryWords]) >> kStartShift);
}

inline void HintSearch::guess(const IndexMemory& index) {
  if (subtree_ == nullptr) return;
  const size_t base = static_cast<uint32_t>(subtree_[0]) * kChunkWords;
  const size_t count = static_cast<uint32_t>(subtree_[1]) & kCountMask;
  if (count == 0 || base + count * kEntryWords > index.word_count) return;
  entries_ = index.words + base;
  count_ = static_cast<int32_t>(count);
  at_ = std::min(static_cast<int32_t>((static_cast<uint32_t>(sector_) * count) >> kSubtreeSectorsShift), count_ - 1);
  // The guess is off by a few entries, which may lie in the cache lines before or after.
  for (int line = -1; line <= 1; line++) __builtin_prefetch(entries_ + at_ * kEntryWords + line * kLineWords);
}

inline void HintSearch::correct() {
  if (count_ == 0) return;
  const int32_t off = ((sector_ - start(at_)) * count_) >> kSubtreeSectorsShift;
  at_ = std::clamp(at_ + off, 0, count_ - 1);
  __builtin_prefetch(entries_ + at_ * kEntryWords);
}

inline int32_t HintSearch::finish() {
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

// Runs `count` searches at once, into `hints`.
void find_hints(const IndexMemory& index, const int32_t* subtrees, const uint16_t* sectors, size_t count, int32_t* hints);

}  // namespace pcache
