#include "copy.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pcache {
namespace {

void read_portable(uint8_t* target, const uint8_t* source, size_t length) { memcpy(target, source, length); }

void stream_portable(uint8_t* target, const uint8_t* source, size_t length) {
  memcpy(target, source, length);
  kernels().flush(target, length);
}

void zero_portable(uint8_t* target, size_t length) {
  memset(target, 0, length);
  kernels().flush(target, length);
}

void flush_nothing(const uint8_t*, size_t) {}

#if defined(__x86_64__)

// One set of loops per vector width. They differ in the register type only, but a function is compiled for
// one instruction set, so that a template over the width cannot be shared between them.

void read_sse2(uint8_t* target, const uint8_t* source, size_t length) {
  size_t at = 0;
  for (; at + 64 <= length; at += 64) {
    const auto* from = reinterpret_cast<const __m128i*>(source + at);
    auto* to = reinterpret_cast<__m128i*>(target + at);
    const __m128i a = _mm_loadu_si128(from), b = _mm_loadu_si128(from + 1);
    const __m128i c = _mm_loadu_si128(from + 2), d = _mm_loadu_si128(from + 3);
    _mm_storeu_si128(to, a);
    _mm_storeu_si128(to + 1, b);
    _mm_storeu_si128(to + 2, c);
    _mm_storeu_si128(to + 3, d);
  }
  memcpy(target + at, source + at, length - at);
}

void stream_sse2(uint8_t* target, const uint8_t* source, size_t length) {
  for (size_t at = 0; at < length; at += 64) {
    const auto* from = reinterpret_cast<const __m128i*>(source + at);
    auto* to = reinterpret_cast<__m128i*>(target + at);
    const __m128i a = _mm_loadu_si128(from), b = _mm_loadu_si128(from + 1);
    const __m128i c = _mm_loadu_si128(from + 2), d = _mm_loadu_si128(from + 3);
    _mm_stream_si128(to, a);
    _mm_stream_si128(to + 1, b);
    _mm_stream_si128(to + 2, c);
    _mm_stream_si128(to + 3, d);
  }
}

void zero_sse2(uint8_t* target, size_t length) {
  const __m128i zero = _mm_setzero_si128();
  for (size_t at = 0; at < length; at += 16) _mm_stream_si128(reinterpret_cast<__m128i*>(target + at), zero);
}

__attribute__((target("avx"))) void read_avx(uint8_t* target, const uint8_t* source, size_t length) {
  size_t at = 0;
  for (; at + 128 <= length; at += 128) {
    const auto* from = reinterpret_cast<const __m256i*>(source + at);
    auto* to = reinterpret_cast<__m256i*>(target + at);
    const __m256i a = _mm256_loadu_si256(from), b = _mm256_loadu_si256(from + 1);
    const __m256i c = _mm256_loadu_si256(from + 2), d = _mm256_loadu_si256(from + 3);
    _mm256_storeu_si256(to, a);
    _mm256_storeu_si256(to + 1, b);
    _mm256_storeu_si256(to + 2, c);
    _mm256_storeu_si256(to + 3, d);
  }
  memcpy(target + at, source + at, length - at);
}

__attribute__((target("avx"))) void stream_avx(uint8_t* target, const uint8_t* source, size_t length) {
  for (size_t at = 0; at < length; at += 64) {
    const auto* from = reinterpret_cast<const __m256i*>(source + at);
    auto* to = reinterpret_cast<__m256i*>(target + at);
    const __m256i a = _mm256_loadu_si256(from), b = _mm256_loadu_si256(from + 1);
    _mm256_stream_si256(to, a);
    _mm256_stream_si256(to + 1, b);
  }
}

__attribute__((target("avx"))) void zero_avx(uint8_t* target, size_t length) {
  const __m256i zero = _mm256_setzero_si256();
  for (size_t at = 0; at < length; at += 32) _mm256_stream_si256(reinterpret_cast<__m256i*>(target + at), zero);
}

__attribute__((target("avx512f"))) void read_avx512(uint8_t* target, const uint8_t* source, size_t length) {
  size_t at = 0;
  for (; at + 256 <= length; at += 256) {
    const __m512i a = _mm512_loadu_si512(source + at), b = _mm512_loadu_si512(source + at + 64);
    const __m512i c = _mm512_loadu_si512(source + at + 128), d = _mm512_loadu_si512(source + at + 192);
    _mm512_storeu_si512(target + at, a);
    _mm512_storeu_si512(target + at + 64, b);
    _mm512_storeu_si512(target + at + 128, c);
    _mm512_storeu_si512(target + at + 192, d);
  }
  memcpy(target + at, source + at, length - at);
}

__attribute__((target("avx512f"))) void stream_avx512(uint8_t* target, const uint8_t* source, size_t length) {
  for (size_t at = 0; at < length; at += 64) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(target + at), _mm512_loadu_si512(source + at));
  }
}

__attribute__((target("avx512f"))) void zero_avx512(uint8_t* target, size_t length) {
  const __m512i zero = _mm512_setzero_si512();
  for (size_t at = 0; at < length; at += 64) _mm512_stream_si512(reinterpret_cast<__m512i*>(target + at), zero);
}

const uint8_t* line_of(const uint8_t* address) {
  return reinterpret_cast<const uint8_t*>(reinterpret_cast<uintptr_t>(address) & ~(kLineBytes - 1));
}

void flush_clflush(const uint8_t* begin, size_t length) {
  for (const uint8_t* line = line_of(begin); line < begin + length; line += kLineBytes) _mm_clflush(line);
}

__attribute__((target("clflushopt"))) void flush_clflushopt(const uint8_t* begin, size_t length) {
  for (const uint8_t* line = line_of(begin); line < begin + length; line += kLineBytes) {
    _mm_clflushopt(const_cast<uint8_t*>(line));
  }
}

__attribute__((target("clwb"))) void flush_clwb(const uint8_t* begin, size_t length) {
  for (const uint8_t* line = line_of(begin); line < begin + length; line += kLineBytes) {
    _mm_clwb(const_cast<uint8_t*>(line));
  }
}

#elif defined(__aarch64__)

// Bytes from one cache line to the next for cleaning; never more than the line that copies assume.
size_t clean_step() {
  uint64_t type;
  __asm__("mrs %0, ctr_el0" : "=r"(type));
  return std::min<size_t>(kLineBytes, size_t{4} << ((type >> 16) & 0xf));
}

// Before: earlier stores outside the cache must not be overtaken. After: `fence` waits for the cleaning.
template <typename Clean>
void clean_lines(const uint8_t* begin, size_t length, Clean clean) {
  static const size_t step = clean_step();
  __asm__ volatile("dmb osh" ::: "memory");
  auto line = reinterpret_cast<uintptr_t>(begin) & ~(step - 1);
  for (const auto end = reinterpret_cast<uintptr_t>(begin) + length; line < end; line += step) clean(line);
}

// By their encodings: assemblers know the names only for newer processors than those compiled for.
void flush_dc_cvap(const uint8_t* begin, size_t length) {
  clean_lines(begin, length, [](uintptr_t line) { __asm__ volatile("sys #3, c7, c12, #1, %0" ::"r"(line) : "memory"); });
}

void flush_dc_cvadp(const uint8_t* begin, size_t length) {
  clean_lines(begin, length, [](uintptr_t line) { __asm__ volatile("sys #3, c7, c13, #1, %0" ::"r"(line) : "memory"); });
}

#endif

// A range of the mapping: whole cache lines, and the partial lines at its ends.
struct Parts {
  size_t head, lines, tail;

  Parts(const uint8_t* target, size_t length) {
    const size_t beyond = reinterpret_cast<uintptr_t>(target) & (kLineBytes - 1);
    head = beyond == 0 ? 0 : std::min(length, kLineBytes - beyond);
    lines = (length - head) & ~(kLineBytes - 1);
    tail = length - head - lines;
  }
};

void edge_copy(uint8_t* target, const uint8_t* source, size_t length) {
  if (length == 0) return;
  memcpy(target, source, length);
  kernels().flush(target, length);
}

void edge_zero(uint8_t* target, size_t length) {
  if (length == 0) return;
  memset(target, 0, length);
  kernels().flush(target, length);
}

}  // namespace

void set_copy_kernels(Kernels& k) {
  k.read = read_portable;
  k.stream_lines = stream_portable;
  k.stream_zero_lines = zero_portable;
  k.flush = flush_nothing;
#if defined(__x86_64__)
  switch (k.copy) {
    case Copy::avx512: k.read = read_avx512; k.stream_lines = stream_avx512; k.stream_zero_lines = zero_avx512; break;
    case Copy::avx: k.read = read_avx; k.stream_lines = stream_avx; k.stream_zero_lines = zero_avx; break;
    case Copy::sse2: k.read = read_sse2; k.stream_lines = stream_sse2; k.stream_zero_lines = zero_sse2; break;
    case Copy::portable: break;
  }
  switch (k.write_back) {
    case WriteBack::clwb: k.flush = flush_clwb; break;
    case WriteBack::clflushopt: k.flush = flush_clflushopt; break;
    case WriteBack::clflush: k.flush = flush_clflush; break;
    default: break;
  }
#elif defined(__aarch64__)
  if (k.write_back == WriteBack::dc_cvap) k.flush = flush_dc_cvap;
  if (k.write_back == WriteBack::dc_cvadp) k.flush = flush_dc_cvadp;
#endif
}

void persisting_copy_with_edges(uint8_t* target, const uint8_t* source, size_t length) {
  const Parts parts(target, length);
  const size_t end = parts.head + parts.lines;
  edge_copy(target, source, parts.head);
  kernels().stream_lines(target + parts.head, source + parts.head, parts.lines);
  edge_copy(target + end, source + end, parts.tail);
}

void persisting_zero(uint8_t* target, size_t length) {
  const Parts parts(target, length);
  edge_zero(target, parts.head);
  kernels().stream_zero_lines(target + parts.head, parts.lines);
  edge_zero(target + parts.head + parts.lines, parts.tail);
}

uint32_t persisting_copy_crc(uint32_t seed, uint8_t* target, const uint8_t* source, size_t length) {
  uint32_t crc = seed;
  if (kernels().stream_lines_crc != nullptr) {
    const Parts parts(target, length);
    const size_t end = parts.head + parts.lines;
    crc = kernels().crc32c(crc, source, parts.head);
    edge_copy(target, source, parts.head);
    crc = kernels().stream_lines_crc(crc, target + parts.head, source + parts.head, parts.lines);
    crc = kernels().crc32c(crc, source + end, parts.tail);
    edge_copy(target + end, source + end, parts.tail);
    return crc;
  }
  // A block is read from memory once, by the CRC, and copied while it is in the first-level cache.
  constexpr size_t kBlockBytes = 4096;
  for (size_t at = 0; at < length; at += kBlockBytes) {
    const size_t block = std::min(kBlockBytes, length - at);
    crc = kernels().crc32c(crc, source + at, block);
    persisting_copy(target + at, source + at, block);
  }
  return crc;
}

void prefetch(const uint8_t* bytes, size_t length) {
#if defined(__x86_64__)
  // The start is enough: it brings in the page's translation, and the processor's own prefetcher follows the
  // copy from there. Prefetching whole 4 KiB was no faster than no prefetch.
  const size_t ahead = std::min<size_t>(length, 512);
  for (size_t at = 0; at < ahead; at += kLineBytes) _mm_prefetch(reinterpret_cast<const char*>(bytes + at), _MM_HINT_T0);
#else
  __builtin_prefetch(bytes);
#endif
}

void fence() {
#if defined(__x86_64__)
  _mm_sfence();
#elif defined(__aarch64__)
  // Stores, and cleaning to the point of persistence, are complete when this is.
  __asm__ volatile("dsb sy" ::: "memory");
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

}  // namespace pcache
