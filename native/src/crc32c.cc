#include "crc32c.h"

#include <algorithm>
#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#endif

namespace pcache {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;

// A reflected polynomial times x, modulo the CRC polynomial.
constexpr uint32_t times_x(uint32_t value) { return (value & 1) ? (value >> 1) ^ kPolynomial : value >> 1; }

// kTables[k][b]: the byte b followed by k zero bytes.
constexpr std::array<std::array<uint32_t, 256>, 8> make_tables() {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit++) crc = times_x(crc);
    tables[0][byte] = crc;
  }
  for (size_t k = 1; k < 8; k++) {
    for (size_t byte = 0; byte < 256; byte++) {
      const uint32_t previous = tables[k - 1][byte];
      tables[k][byte] = tables[0][previous & 0xff] ^ (previous >> 8);
    }
  }
  return tables;
}

constexpr auto kTables = make_tables();

uint32_t crc_table(uint32_t seed, const uint8_t* bytes, size_t length) {
  uint32_t crc = seed;
  for (; length >= 8; bytes += 8, length -= 8) {
    for (int i = 0; i < 4; i++) crc ^= static_cast<uint32_t>(bytes[i]) << (8 * i);
    uint32_t next = 0;
    for (int i = 0; i < 4; i++) next ^= kTables[7 - i][(crc >> (8 * i)) & 0xff] ^ kTables[3 - i][bytes[4 + i]];
    crc = next;
  }
  for (; length > 0; bytes++, length--) crc = kTables[0][(crc ^ *bytes) & 0xff] ^ (crc >> 8);
  return crc;
}

#if defined(__x86_64__)

// The crc32 instruction takes three cycles but one can start every cycle, so three lanes run side by side.
// The CRC is linear: the CRC of three lanes laid end to end is the first lane's moved on by two lanes'
// length, plus the second's (from seed 0) moved on by one, plus the third's. Moving on by n bytes is a
// multiplication by x^(8n) modulo the polynomial.
//
// Lanes are short so that together they pass over memory in one sweep: with lanes of a page or so apart the
// processor's prefetcher lost track, which halved the speed on a large mapping.
constexpr size_t kLaneBytesMax = 256;
constexpr size_t kLanedBytesMin = 192;
constexpr size_t kPrefetchBytes = 1024;

// x^(bits - 33) modulo the polynomial, reflected: what to multiply by to move on by `bits`. The carry-less
// product of two reflected 32-bit values comes out shifted by one, and reducing it with the crc32
// instruction (or taking it as the top of a 128-bit value) appends 32 zero bits: the 33 subtracted here.
constexpr uint32_t shift_key(size_t bits) {
  uint32_t power = 0x80000000;  // x^0
  for (size_t exponent = 0; exponent < bits - 33; exponent++) power = times_x(power);
  return power;
}

constexpr std::array<uint32_t, 2 * kLaneBytesMax / 8 + 1> make_shift_keys() {
  std::array<uint32_t, 2 * kLaneBytesMax / 8 + 1> keys{};
  for (size_t i = 1; i < keys.size(); i++) keys[i] = shift_key(64 * i);
  return keys;
}

// Indexed by the number of 8-byte words to move on by.
constexpr auto kShiftKeys = make_shift_keys();

uint64_t load64(const uint8_t* bytes) {
  uint64_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

// Prefetches the memory that a lane will reach. It does nothing beyond the end of the range.
void prefetch(const uint8_t* bytes) {
  _mm_prefetch(reinterpret_cast<const char*>(bytes) + kPrefetchBytes, _MM_HINT_T0);
}

__attribute__((target("sse4.2,pclmul"))) uint64_t move_on(uint64_t crc, size_t bytes) {
  const __m128i value = _mm_cvtsi64_si128(static_cast<int64_t>(crc));
  const __m128i key = _mm_cvtsi64_si128(static_cast<int64_t>(kShiftKeys[bytes / 8]));
  return _mm_crc32_u64(0, static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_clmulepi64_si128(value, key, 0))));
}

__attribute__((target("sse4.2,pclmul"))) uint32_t crc_hardware(uint32_t seed, const uint8_t* bytes, size_t length) {
  uint64_t crc = seed;
  while (length >= kLanedBytesMin) {
    const size_t lane = std::min(kLaneBytesMax, length / 24 * 8);
    uint64_t second = 0, third = 0;
    for (size_t at = 0; at < lane; at += 8) {
      if (at % 64 == 0) {
        prefetch(bytes + at);
        prefetch(bytes + lane + at);
        prefetch(bytes + 2 * lane + at);
      }
      crc = _mm_crc32_u64(crc, load64(bytes + at));
      second = _mm_crc32_u64(second, load64(bytes + lane + at));
      third = _mm_crc32_u64(third, load64(bytes + 2 * lane + at));
    }
    crc = move_on(crc, 2 * lane) ^ move_on(second, lane) ^ third;
    bytes += 3 * lane;
    length -= 3 * lane;
  }
  for (; length >= 8; bytes += 8, length -= 8) crc = _mm_crc32_u64(crc, load64(bytes));
  auto low = static_cast<uint32_t>(crc);
  for (; length > 0; bytes++, length--) low = _mm_crc32_u8(low, *bytes);
  return low;
}

// Sixteen 128-bit remainders side by side, each moved on by the 256 bytes of all of them and added to the
// next 256 bytes: the range shrinks to 256 bytes with the same CRC.
constexpr size_t kFoldedBytes = 256;

// At least two times that. Where it streams it copies all whole 256 bytes to `target` on the way.
template <bool kStreams>
__attribute__((target("avx512f,vpclmulqdq,sse4.2,pclmul"))) uint32_t crc_folded(uint32_t seed, const uint8_t* bytes, size_t length,
                                                                              uint8_t* target) {
  // The first eight of sixteen bytes stand 64 bits higher than the other eight.
  constexpr auto kFirstKey = static_cast<long long>(shift_key(8 * kFoldedBytes + 64));
  constexpr auto kSecondKey = static_cast<long long>(shift_key(8 * kFoldedBytes));
  const __m512i keys = _mm512_set4_epi64(kSecondKey, kFirstKey, kSecondKey, kFirstKey);
  __m512i rest[4];
  for (int i = 0; i < 4; i++) {
    rest[i] = _mm512_loadu_si512(bytes + 64 * i);
    if (kStreams) _mm512_stream_si512(reinterpret_cast<__m512i*>(target + 64 * i), rest[i]);
  }
  rest[0] = _mm512_xor_si512(rest[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(seed))));
  for (bytes += kFoldedBytes, length -= kFoldedBytes; length >= kFoldedBytes; bytes += kFoldedBytes, length -= kFoldedBytes) {
    target += kStreams ? kFoldedBytes : 0;
    for (int i = 0; i < 4; i++) {
      const __m512i next = _mm512_loadu_si512(bytes + 64 * i);
      if (kStreams) _mm512_stream_si512(reinterpret_cast<__m512i*>(target + 64 * i), next);
      const __m512i first = _mm512_clmulepi64_epi128(rest[i], keys, 0x00);
      const __m512i second = _mm512_clmulepi64_epi128(rest[i], keys, 0x11);
      rest[i] = _mm512_xor_si512(_mm512_xor_si512(first, second), next);
    }
  }
  uint8_t folded[kFoldedBytes];
  for (int i = 0; i < 4; i++) _mm512_storeu_si512(folded + 64 * i, rest[i]);
  return crc_hardware(crc_hardware(0, folded, kFoldedBytes), bytes, length);
}

uint32_t crc_vector(uint32_t seed, const uint8_t* bytes, size_t length) {
  if (length < 2 * kFoldedBytes) return crc_hardware(seed, bytes, length);
  return crc_folded<false>(seed, bytes, length, nullptr);
}

// The stores take longer than the folding, so that the CRC is free.
uint32_t stream_lines_crc_vector(uint32_t seed, uint8_t* target, const uint8_t* source, size_t length) {
  const size_t folded = length < 2 * kFoldedBytes ? 0 : length - length % kFoldedBytes;
  kernels().stream_lines(target + folded, source + folded, length - folded);
  if (folded == 0) return crc_hardware(seed, source, length);
  return crc_folded<true>(seed, source, length, target);
}

#elif defined(__aarch64__)

__attribute__((target("+crc"))) uint32_t crc_hardware(uint32_t seed, const uint8_t* bytes, size_t length) {
  uint32_t crc = seed;
  for (; length >= 8; bytes += 8, length -= 8) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    crc = __crc32cd(crc, word);
  }
  for (; length > 0; bytes++, length--) crc = __crc32cb(crc, *bytes);
  return crc;
}

#endif

}  // namespace

void set_crc_kernel(Kernels& k) {
  k.crc32c = crc_table;
#if defined(__x86_64__)
  if (k.crc == Crc::hardware) k.crc32c = crc_hardware;
  if (k.crc == Crc::vector) k.crc32c = crc_vector;
  if (k.crc == Crc::vector && k.copy == Copy::avx512) k.stream_lines_crc = stream_lines_crc_vector;
#elif defined(__aarch64__)
  if (k.crc == Crc::hardware) k.crc32c = crc_hardware;
#endif
}

}  // namespace pcache
