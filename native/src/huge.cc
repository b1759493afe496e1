#include "huge.h"

#include <cerrno>
#include <sys/mman.h>

#include "errors.h"

namespace pcache {
namespace {

constexpr size_t kHugeBytes = 2 << 20;
// Node 20 refuses larger external memory, and then both Node and node-addon-api run the finalizer.
constexpr double kBytesMax = 4294967296.0;

size_t round_up(size_t bytes) { return (bytes + kHugeBytes - 1) & ~(kHugeBytes - 1); }

// Returns memory that begins at a large page; null, with errno set, when the system refuses.
uint8_t* map_aligned(size_t bytes) {
  const size_t reserved = bytes + kHugeBytes;
  void* const got = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (got == MAP_FAILED) return nullptr;
  uint8_t* const begin = static_cast<uint8_t*>(got);
  const size_t before = round_up(reinterpret_cast<uintptr_t>(begin)) - reinterpret_cast<uintptr_t>(begin);
  if (before > 0) munmap(begin, before);
  munmap(begin + before + bytes, kHugeBytes - before);
  return begin + before;
}

}  // namespace

Napi::Value allocate_huge(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const double asked = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : 0;
  if (!(asked >= 1 && asked <= kBytesMax)) throw coded_error(env, "OUT_OF_RANGE", "the size is not from 1 byte to 4 GiB");
  const auto wanted = static_cast<size_t>(asked);
  const size_t bytes = round_up(wanted);
  uint8_t* const memory = map_aligned(bytes);
  if (memory == nullptr) throw errno_error(env, "allocating memory", errno);
  // If the system has no large pages, small ones serve.
  madvise(memory, bytes, MADV_HUGEPAGE);
  const auto release = [](Napi::Env, void* data, size_t* size) {
    munmap(data, *size);
    delete size;
  };
  return Napi::ArrayBuffer::New(env, memory, wanted, release, new size_t(bytes));
}

}  // namespace pcache
