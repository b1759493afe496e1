// The features of this processor, and the instructions chosen for it at load time. Every other file goes through
// `kernels()`; only this one asks the processor.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pcache {

struct Cpu {
  bool clwb, clflushopt, clflush, sse42, pclmul, avx, avx2, avx512f, vpclmulqdq;
  // arm64: the crc32c instructions; DC CVAP and DC CVADP, which clean to the point of (deep) persistence.
  bool crc32, dcpop, dcpodp;
};

enum class Copy { portable, sse2, avx, avx512 };
enum class WriteBack { none, clflush, clflushopt, clwb, dc_cvap, dc_cvadp };
// table, the crc32 instruction, carry-less products of whole vectors
enum class Crc { table, hardware, vector };

// The instructions in use. A pointer never changes under a running call: `select` is called from JavaScript
// between calls, and only tests call it.
struct Kernels {
  Copy copy;
  WriteBack write_back;
  Crc crc;

  // Plain copy from a mapping to memory.
  void (*read)(uint8_t* target, const uint8_t* source, size_t length);
  // Persisting copy of whole, aligned cache lines: `target` and `length` are multiples of 64.
  void (*stream_lines)(uint8_t* target, const uint8_t* source, size_t length);
  void (*stream_zero_lines)(uint8_t* target, size_t length);
  // Writes the cache lines that [begin, begin + length) touches back to the medium.
  void (*flush)(const uint8_t* begin, size_t length);
  // Raw CRC-32C continued from `seed`.
  uint32_t (*crc32c)(uint32_t seed, const uint8_t* bytes, size_t length);
  // `stream_lines` and the CRC of the copied bytes, in one loop; null where two loops are as fast.
  uint32_t (*stream_lines_crc)(uint32_t seed, uint8_t* target, const uint8_t* source, size_t length);
};

const Cpu& cpu();

// Whether cache lines can be written back to persistent memory here, so that a DAX mapping needs no fdatasync.
bool can_write_back();

extern Kernels chosen_kernels;
inline const Kernels& kernels() { return chosen_kernels; }

// Selects other instructions than the fastest; returns false if this processor lacks them.
bool select(Copy copy, WriteBack write_back, Crc crc);

}  // namespace pcache
