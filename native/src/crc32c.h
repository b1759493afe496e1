// Raw CRC-32C: Castagnoli polynomial, reflected, no inversion before or after.
#pragma once

#include "cpu.h"

namespace pcache {

// The seed of every CRC in the on-media format.
constexpr uint32_t kFormatSeed = 0x0003b15a;

// Fills in the function pointer for `kernels.crc`.
void set_crc_kernel(Kernels& kernels);

}  // namespace pcache
