#include "hints.h"

#include <algorithm>

namespace pcache {
namespace {

// Number of searches that run at once.
constexpr size_t kAbreast = 64;

}  // namespace

void find_hints(const IndexMemory& index, const int32_t* subtrees, const uint16_t* sectors, size_t count, int32_t* hints) {
  HintSearch searches[kAbreast];
  for (size_t from = 0; from < count; from += kAbreast) {
    const size_t some = std::min(count - from, kAbreast);
    for (size_t i = 0; i < some; i++) searches[i] = HintSearch(index, subtrees[from + i], sectors[from + i]);
    for (size_t i = 0; i < some; i++) searches[i].guess(index);
    for (size_t i = 0; i < some; i++) searches[i].correct();
    for (size_t i = 0; i < some; i++) hints[from + i] = searches[i].finish();
  }
}

}  // namespace pcache
