// Memory for large tables with random lookups, in large pages where the system has them, so that a lookup misses only
// on the data and not on the page tables too.
#pragma once

#include <napi.h>

namespace pcache {

// allocateHuge(bytes) → zeroed ArrayBuffer; the system provides only the pages that are touched. Throws ERRNO, and
// OUT_OF_RANGE above 4 GiB.
Napi::Value allocate_huge(const Napi::CallbackInfo& info);

}  // namespace pcache
