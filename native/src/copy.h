// Copies to and from a mapping. A persisting store bypasses the cache for whole lines and writes back the partial lines
// at its ends; neither is durable, or ordered before later stores, until `fence`.
#pragma once

#include "cpu.h"

namespace pcache {

constexpr size_t kLineBytes = 64;

// Fills in the function pointers for `kernels.copy` and `kernels.write_back`.
void set_copy_kernels(Kernels& kernels);

void persisting_copy_with_edges(uint8_t* target, const uint8_t* source, size_t length);
inline void persisting_copy(uint8_t* target, const uint8_t* source, size_t length) {
  if (((reinterpret_cast<uintptr_t>(target) | length) & (kLineBytes - 1)) == 0) {
    kernels().stream_lines(target, source, length);
  } else {
    persisting_copy_with_edges(target, source, length);
  }
}
void persisting_zero(uint8_t* target, size_t length);
// The same copy with the CRC of the copied bytes, in one pass over memory.
uint32_t persisting_copy_crc(uint32_t seed, uint8_t* target, const uint8_t* source, size_t length);

// Prefetches the cache lines of a coming read. Never faults.
void prefetch(const uint8_t* bytes, size_t length);

// Completes all earlier stores, streaming ones included, before any later store.
void fence();

}  // namespace pcache
