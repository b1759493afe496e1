#include "cpu.h"

#include "copy.h"
#include "crc32c.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace pcache {
namespace {

#if defined(__x86_64__)
uint64_t extended_state() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

Cpu detect() {
  Cpu found{};
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
  found.clflush = d & (1u << 19);
  found.sse42 = c & (1u << 20);
  found.pclmul = c & (1u << 1);
  // A vector register counts only if the operating system saves it: XCR0 says so.
  const bool osxsave = c & (1u << 27);
  const uint64_t state = osxsave ? extended_state() : 0;
  const bool ymm = (state & 0x06) == 0x06;
  const bool zmm = (state & 0xe6) == 0xe6;
  found.avx = ymm && (c & (1u << 28));
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
  found.clflushopt = b & (1u << 23);
  found.clwb = b & (1u << 24);
  found.avx2 = ymm && (b & (1u << 5));
  found.avx512f = zmm && (b & (1u << 16));
  found.vpclmulqdq = c & (1u << 10);
  return found;
}
#elif defined(__aarch64__)
// The kernel's bits (asm/hwcap.h), which older headers lack in part. It sets DCPOP and DCPODP where programs may use
// the instructions.
constexpr unsigned long kHwcapCrc32 = 1ul << 7, kHwcapDcpop = 1ul << 16, kHwcap2Dcpodp = 1ul << 0;

Cpu detect() {
  Cpu found{};
  const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
  found.crc32 = first & kHwcapCrc32;
  found.dcpop = first & kHwcapDcpop;
  found.dcpodp = found.dcpop && (second & kHwcap2Dcpodp);
  return found;
}
#else
Cpu detect() { return Cpu{}; }
#endif

const Cpu detected = detect();

Copy best_copy() {
#if defined(__x86_64__)
  if (detected.avx512f) return Copy::avx512;
  if (detected.avx) return Copy::avx;
  return Copy::sse2;
#else
  return Copy::portable;
#endif
}

WriteBack best_write_back() {
  if (detected.clwb) return WriteBack::clwb;
  if (detected.clflushopt) return WriteBack::clflushopt;
  if (detected.clflush) return WriteBack::clflush;
  if (detected.dcpodp) return WriteBack::dc_cvadp;
  if (detected.dcpop) return WriteBack::dc_cvap;
  return WriteBack::none;
}

// The instructions of the other architecture are between none and the best, and are not had.
bool has(WriteBack write_back) {
  if (write_back == WriteBack::none) return true;
  const bool is_arm = write_back >= WriteBack::dc_cvap;
  return is_arm ? detected.dcpop && write_back <= best_write_back() : detected.clflush && write_back <= best_write_back();
}

Crc best_crc() {
  if (detected.crc32) return Crc::hardware;
  if (!detected.sse42 || !detected.pclmul) return Crc::table;
  return detected.avx512f && detected.vpclmulqdq ? Crc::vector : Crc::hardware;
}

Kernels make(Copy copy, WriteBack write_back, Crc crc) {
  Kernels made{};
  made.copy = copy;
  made.write_back = write_back;
  made.crc = crc;
  set_copy_kernels(made);
  set_crc_kernel(made);
  return made;
}

}  // namespace

Kernels chosen_kernels = make(best_copy(), best_write_back(), best_crc());

const Cpu& cpu() { return detected; }

bool can_write_back() { return best_write_back() != WriteBack::none; }

bool select(Copy copy, WriteBack write_back, Crc crc) {
  // The enumerations are ordered: a processor that has one choice has every slower one.
  if (copy > best_copy() || !has(write_back) || crc > best_crc()) return false;
  chosen_kernels = make(copy, write_back, crc);
  return true;
}

}  // namespace pcache
