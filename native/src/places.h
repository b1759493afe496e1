// Searches of sorted arrays in the memory of an extent index (src/engine/index/extent-index.ts).
#pragma once

#include <cstddef>
#include <cstdint>

namespace pcache {

// The memory of an extent index, as JavaScript laid it out.
struct IndexMemory {
  const int32_t* words = nullptr;
  size_t word_count = 0;
  // Two words a subtree: its chunk, and its entries in the low 16 bits.
  const int32_t* subtrees = nullptr;
  size_t subtree_count = 0;
};

// How many entries of a subtree start at or before a sector, in steps: each asks for memory that the next one needs,
// so that other work, or other searches, can go on while it comes. The result is where to look first, and nothing
// more: whoever uses it checks it. Outside the index it is 0.
class PlaceSearch {
 public:
  PlaceSearch() = default;
  PlaceSearch(const IndexMemory& index, int32_t subtree, int32_t sector);

  // First where it would be if the entries were spread evenly,
  void guess();
  // then as far from there as the entry found says,
  void correct();
  // and from there one by one, a few.
  int32_t finish();

 private:
  int32_t start(int32_t i) const;

  const IndexMemory* index_ = nullptr;
  // Two words of `index_->subtrees`; null outside.
  const int32_t* subtree_ = nullptr;
  const int32_t* entries_ = nullptr;
  int32_t sector_ = 0;
  int32_t count_ = 0;
  int32_t at_ = 0;
};

// Many searches side by side, into `places`.
void find_places(const IndexMemory& index, const int32_t* subtrees, const uint16_t* sectors, size_t count, int32_t* places);

}  // namespace pcache
