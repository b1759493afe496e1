// Memory for large tables that are looked up at random: in large pages where the system has them, so that a lookup
// misses the data alone and not the page tables as well.
#pragma once

#include <napi.h>

namespace pcache {

// allocateHuge(bytes) → ArrayBuffer of zeroes, of which the system gives only what is touched. Throws ERRNO.
Napi::Value allocate_huge(const Napi::CallbackInfo& info);

}  // namespace pcache
