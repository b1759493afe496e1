// The limit that `pcache bench` compares the engine with: the same copies in a plain loop.
#include <algorithm>
#include <chrono>

#include "call.h"
#include "copy.h"

namespace pcache {
namespace {

// What memory itself allows: the copies of a list and nothing else, in groups that share a fence and in which
// reads are asked for ahead, as `runReads` does it. Bounds are checked before the clock starts.
class LimitRun {
 public:
  LimitRun(Mapping& mapping, const CopyList& list, const Arena& arena, const uint8_t* is_read, uint32_t count, uint32_t group)
      : mapping_(mapping), list_(list), arena_(arena), is_read_(is_read), count_(count), group_(group) {}

  bool check() const {
    for (uint32_t i = 0; i < count_; i++) {
      uint64_t offset;
      if (!Arguments<1>::to_integer(list_.pmem_offset[i], &offset) || !mapping_.holds(offset, list_.length[i]) ||
          !inside(list_.arena_offset[i], list_.length[i], arena_.length)) {
        return false;
      }
    }
    return true;
  }

  void run() const {
    for (uint32_t start = 0; start < count_; start += group_) {
      const uint32_t end = std::min(count_, start + group_);
      bool wrote = false;
      for (uint32_t i = start; i < std::min(end, start + kReadAhead); i++) ask_for(i);
      for (uint32_t i = start; i < end; i++) {
        if (i + kReadAhead < end) ask_for(i + kReadAhead);
        uint8_t* const pmem = mapping_.base() + static_cast<uint64_t>(list_.pmem_offset[i]);
        uint8_t* const bytes = arena_.bytes + list_.arena_offset[i];
        if (is_read_[i]) {
          kernels().read(bytes, pmem, list_.length[i]);
        } else {
          persisting_copy(pmem, bytes, list_.length[i]);
          wrote = true;
        }
      }
      if (wrote) fence();
    }
  }

 private:
  void ask_for(uint32_t i) const {
    if (is_read_[i]) prefetch(mapping_.base() + static_cast<uint64_t>(list_.pmem_offset[i]), list_.length[i]);
  }

  Mapping& mapping_;
  const CopyList& list_;
  const Arena& arena_;
  const uint8_t* const is_read_;
  const uint32_t count_;
  const uint32_t group_;
};

}  // namespace

// (mapping, list, count, arena, group, isRead) → nanoseconds
napi_value limit_copies(napi_env env, napi_callback_info info) {
  const Arguments<6> args(env, info);
  const uint8_t* is_read;
  uint32_t list_handle, arena_handle, count, group;
  Mapping* mapping = args.mapping(0);
  CopyList* list = args.word(1, &list_handle) ? args.state().lists.find(list_handle) : nullptr;
  Arena* arena = args.word(3, &arena_handle) ? args.state().arenas.find(arena_handle) : nullptr;
  if (mapping == nullptr || list == nullptr || arena == nullptr) return fail_closed(env);
  if (!check_writable(env, *mapping)) return nullptr;
  if (!args.word(2, &count) || count > list->capacity || !args.word(4, &group) || group == 0) return fail_range(env);
  if (!args.items(5, napi_uint8_array, count, &is_read)) return fail(env, "INVALID", "a column for so many copies is needed");
  const LimitRun run(*mapping, *list, *arena, is_read, count, group);
  if (!run.check()) return fail_range(env);
  FaultGuard guard;
  const auto started = std::chrono::steady_clock::now();
  auto body = [&] { run.run(); };
  if (!guarded(guard, mapping->base(), mapping->size_bytes(), body)) return fail_fault(env, *mapping, guard);
  const std::chrono::duration<double, std::nano> elapsed = std::chrono::steady_clock::now() - started;
  napi_value result;
  return napi_create_double(env, elapsed.count(), &result) == napi_ok ? result : nullptr;
}

}  // namespace pcache
