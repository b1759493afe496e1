// Searches of many sorted arrays at once, for the extent index (src/engine/index/extent-index.ts).
#pragma once

#include <cstddef>
#include <cstdint>

namespace pcache {

// The memory of an extent index, as JavaScript laid it out.
struct IndexMemory {
  const int32_t* words;
  size_t word_count;
  // Two words a subtree: its chunk, and its entries in the low 16 bits.
  const int32_t* subtrees;
  size_t subtree_count;
};

// How many entries of each subtree start at or before each sector, into `places`; of what lies outside the index, 0.
// Side by side, so that the cache misses of one search are waited for while the others go on. A place is where to look
// first, and nothing more: whoever uses it checks it.
void find_places(const IndexMemory& index, const int32_t* subtrees, const uint16_t* sectors, size_t count, int32_t* places);

}  // namespace pcache
