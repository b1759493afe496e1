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

struct Search {
  const int32_t* entries;
  int32_t count;
  int32_t sector;
  int32_t at;

  int32_t start(int32_t i) const {
    return static_cast<int32_t>(static_cast<uint32_t>(entries[i * kEntryWords]) >> kStartShift);
  }
  void prefetch() const { __builtin_prefetch(entries + at * kEntryWords); }
};

Search begin(const IndexMemory& index, int32_t subtree, uint16_t sector) {
  Search search{index.words, 0, sector, 0};
  if (subtree < 0 || static_cast<size_t>(subtree) >= index.subtree_count) return search;
  const size_t base = static_cast<uint32_t>(index.subtrees[subtree * 2]) * kChunkWords;
  const size_t count = static_cast<uint32_t>(index.subtrees[subtree * 2 + 1]) & kCountMask;
  if (base + count * kEntryWords > index.word_count) return search;
  search.entries += base;
  search.count = static_cast<int32_t>(count);
  search.at = static_cast<int32_t>((static_cast<uint32_t>(sector) * count) >> kSubtreeSectorsShift);
  search.at = std::min(search.at, std::max(search.count - 1, 0));
  return search;
}

// From what is found at the first guess, and how far off that is, the second.
void correct(Search& search) {
  const int32_t off = ((search.sector - search.start(search.at)) * search.count) >> kSubtreeSectorsShift;
  search.at = std::clamp(search.at + off, 0, search.count - 1);
}

void finish(Search& search) {
  int32_t at = search.at;
  int steps = kSteps;
  if (search.start(at) <= search.sector) {
    for (at++; at < search.count && search.start(at) <= search.sector && steps > 0; steps--) at++;
  } else {
    for (; at > 0 && search.start(at - 1) > search.sector && steps > 0; steps--) at--;
  }
  search.at = at;
}

}  // namespace

void find_places(const IndexMemory& index, const int32_t* subtrees, const uint16_t* sectors, size_t count, int32_t* places) {
  Search searches[kAbreast];
  for (size_t from = 0; from < count; from += kAbreast) {
    const size_t some = std::min(count - from, kAbreast);
    for (size_t i = 0; i < some; i++) {
      const int32_t subtree = subtrees[from + i];
      if (subtree >= 0 && static_cast<size_t>(subtree) < index.subtree_count) __builtin_prefetch(index.subtrees + subtree * 2);
    }
    for (size_t i = 0; i < some; i++) {
      searches[i] = begin(index, subtrees[from + i], sectors[from + i]);
      searches[i].prefetch();
    }
    for (size_t i = 0; i < some; i++) {
      if (searches[i].count == 0) continue;
      correct(searches[i]);
      searches[i].prefetch();
    }
    for (size_t i = 0; i < some; i++) {
      if (searches[i].count > 0) finish(searches[i]);
      places[from + i] = searches[i].at;
    }
  }
}

}  // namespace pcache
