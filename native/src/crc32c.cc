#include "crc32c.h"

#include <algorithm>
#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pcache {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;

// A reflected polynomial times x, modulo the CRC polynomial.
constexpr uint32_t times_x(uint32_t value) { return (value & 1) ? (value >> 1) ^ kPolynomial : value >> 1; }

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit++) crc = times_x(crc);
    table[byte] = crc;
  }
  return table;
}

constexpr auto kTable = make_table();

uint32_t crc_table(uint32_t seed, const uint8_t* bytes, size_t length) {
  uint32_t crc = seed;
  for (size_t i = 0; i < length; i++) crc = kTable[(crc ^ bytes[i]) & 0xff] ^ (crc >> 8);
  return crc;
}

#if defined(__x86_64__)

// The crc32 instruction takes three cycles but one can start every cycle, so three lanes run side by side.
// The CRC is linear: the CRC of three lanes laid end to end is the first lane's moved on by two lanes'
// length, plus the second's (from seed 0) moved on by one, plus the third's. Moving on by n bytes is a
// multiplication by x^(8n) modulo the polynomial.
constexpr size_t kLaneBytesMax = 2048;
constexpr size_t kLanedBytesMin = 192;

// keys[i] = x^(64 i - 33) modulo the polynomial, reflected. The carry-less product of two reflected 32-bit
// values comes out shifted by one, and reducing it with the crc32 instruction appends 32 zero bits: the 33
// that are subtracted here.
std::array<uint32_t, 2 * kLaneBytesMax / 8 + 1> make_shift_keys() {
  std::array<uint32_t, 2 * kLaneBytesMax / 8 + 1> keys{};
  uint32_t power = 0x80000000;  // x^0
  size_t exponent = 0;
  for (size_t i = 1; i < keys.size(); i++) {
    for (; exponent < 64 * i - 33; exponent++) power = times_x(power);
    keys[i] = power;
  }
  return keys;
}

const auto shift_keys = make_shift_keys();

uint64_t load64(const uint8_t* bytes) {
  uint64_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

__attribute__((target("sse4.2,pclmul"))) uint64_t move_on(uint64_t crc, size_t bytes) {
  const __m128i value = _mm_cvtsi64_si128(static_cast<int64_t>(crc));
  const __m128i key = _mm_cvtsi64_si128(static_cast<int64_t>(shift_keys[bytes / 8]));
  return _mm_crc32_u64(0, static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_clmulepi64_si128(value, key, 0))));
}

__attribute__((target("sse4.2,pclmul"))) uint32_t crc_hardware(uint32_t seed, const uint8_t* bytes, size_t length) {
  uint64_t crc = seed;
  while (length >= kLanedBytesMin) {
    const size_t lane = std::min(kLaneBytesMax, length / 24 * 8);
    uint64_t second = 0, third = 0;
    for (size_t at = 0; at < lane; at += 8) {
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

#endif  // __x86_64__

}  // namespace

void set_crc_kernel(Kernels& k) {
  k.crc32c = crc_table;
#if defined(__x86_64__)
  if (k.crc == Crc::hardware) k.crc32c = crc_hardware;
#endif
}

}  // namespace pcache
