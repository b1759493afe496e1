// Moving bytes to and from a mapping. A persisting store bypasses the cache for whole lines and writes the
// two partial lines at the ends back; neither is durable, or ordered against later stores, before `fence`.
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
// The same copy, and the CRC of what was copied, with one pass over memory.
uint32_t persisting_copy_crc(uint32_t seed, uint8_t* target, const uint8_t* source, size_t length);

// Asks for the lines of a coming read. Never faults.
void prefetch(const uint8_t* bytes, size_t length);

// Earlier stores, the streaming ones too, are complete before later ones.
void fence();

}  // namespace pcache
