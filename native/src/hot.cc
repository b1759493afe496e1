// The calls of the data plane, in raw Node-API and with scalar arguments. Every call checks its handles and
// bounds before it touches anything; what is wrong is thrown as an Error with a `code`: CLOSED, OUT_OF_RANGE,
// READ_ONLY, INVALID, ERRNO (with `errno`), FAULT or FAULT_MEMORY (with `offsetBytes`).
#include <algorithm>
#include <chrono>
#include <memory>

#include "copy.h"
#include "cpu.h"
#include "crc32c.h"
#include "guard.h"
#include "hints.h"
#include "state.h"

namespace pcache {
namespace {

constexpr double kSafeIntegers = 9007199254740992.0;  // 2^53
constexpr uint32_t kCrcRangesMax = 1 << 20;
constexpr uint32_t kCrcThreadsMax = 64;
constexpr uint64_t kSectorBytes = 512;
// How far ahead of its turn a read is asked for.
constexpr uint32_t kReadAhead = 2;

napi_value fail(napi_env env, const char* code, const char* message) {
  napi_throw_error(env, code, message);
  return nullptr;
}

napi_value fail_with_number(napi_env env, const char* code, const char* message, const char* name, double number) {
  napi_value code_text, message_text, error, value;
  if (napi_create_string_utf8(env, code, NAPI_AUTO_LENGTH, &code_text) != napi_ok ||
      napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &message_text) != napi_ok ||
      napi_create_error(env, code_text, message_text, &error) != napi_ok ||
      napi_create_double(env, number, &value) != napi_ok ||
      napi_set_named_property(env, error, name, value) != napi_ok) {
    return nullptr;
  }
  napi_throw(env, error);
  return nullptr;
}

napi_value fail_closed(napi_env env) { return fail(env, "CLOSED", "the handle is not open"); }
napi_value fail_range(napi_env env) { return fail(env, "OUT_OF_RANGE", "offset and length are out of range"); }

napi_value fail_fault(napi_env env, const Mapping& mapping, const FaultGuard& guard) {
  const bool poisoned = guard.code == BUS_MCEERR_AR || guard.code == BUS_MCEERR_AO;
  return fail_with_number(env, poisoned ? "FAULT_MEMORY" : "FAULT", "the mapped memory could not be accessed",
                          "offsetBytes", static_cast<double>(guard.address - mapping.base()));
}

// The arguments of one call.
template <size_t N>
class Arguments {
 public:
  Arguments(napi_env env, napi_callback_info info) : env_(env) {
    size_t count = N;
    void* data = nullptr;
    napi_get_cb_info(env, info, &count, values_, nullptr, &data);
    state_ = static_cast<State*>(data);
  }

  State& state() const { return *state_; }
  napi_value value(size_t index) const { return values_[index]; }

  bool integer(size_t index, uint64_t* result) const {
    double number;
    return napi_get_value_double(env_, values_[index], &number) == napi_ok && to_integer(number, result);
  }

  // An unsigned 32-bit integer; handles and seeds are.
  bool word(size_t index, uint32_t* result) const {
    uint64_t number;
    if (!integer(index, &number) || number > UINT32_MAX) return false;
    *result = static_cast<uint32_t>(number);
    return true;
  }

  bool bytes(size_t index, uint8_t** data, size_t* length) const {
    napi_typedarray_type type;
    void* address;
    if (napi_get_typedarray_info(env_, values_[index], &type, length, &address, nullptr, nullptr) != napi_ok) return false;
    *data = static_cast<uint8_t*>(address);
    return type == napi_uint8_array;
  }

  template <typename Item>
  bool column(size_t index, napi_typedarray_type wanted, Item** data, size_t* length) const {
    napi_typedarray_type type;
    void* address;
    if (napi_get_typedarray_info(env_, values_[index], &type, length, &address, nullptr, nullptr) != napi_ok) return false;
    *data = static_cast<Item*>(address);
    return type == wanted;
  }

  // A typed array of at least `count` items.
  template <typename Item>
  bool items(size_t index, napi_typedarray_type wanted, size_t count, Item** data) const {
    size_t length;
    return column(index, wanted, data, &length) && length >= count;
  }

  Mapping* mapping(size_t index) const {
    uint32_t handle;
    return word(index, &handle) ? state_->mappings.find(handle) : nullptr;
  }

  static bool to_integer(double number, uint64_t* result) {
    if (!(number >= 0 && number < kSafeIntegers)) return false;
    const auto whole = static_cast<int64_t>(number);  // one instruction, where an unsigned one takes several
    *result = static_cast<uint64_t>(whole);
    return static_cast<double>(whole) == number;
  }

 private:
  napi_env env_;
  State* state_;
  napi_value values_[N == 0 ? 1 : N];
};

bool inside(uint64_t offset, uint64_t length, uint64_t size) { return length <= size && offset <= size - length; }

// (mapping, offset, bytes, bytesOffset, length)
struct Transfer {
  Mapping* mapping;
  uint64_t offset, bytes_offset, length;
  uint8_t* bytes;

  // False with an exception pending.
  bool parse(napi_env env, napi_callback_info info) {
    const Arguments<5> args(env, info);
    size_t bytes_length;
    mapping = args.mapping(0);
    if (mapping == nullptr) return fail_closed(env), false;
    if (!args.bytes(2, &bytes, &bytes_length)) return fail(env, "INVALID", "a Uint8Array is needed"), false;
    if (!args.integer(1, &offset) || !args.integer(3, &bytes_offset) || !args.integer(4, &length) ||
        !mapping->holds(offset, length) || !inside(bytes_offset, length, bytes_length)) {
      return fail_range(env), false;
    }
    return true;
  }
};

// (mapping, offset, length, …)
template <size_t N>
bool parse_range(napi_env env, const Arguments<N>& args, Mapping** mapping, uint64_t* offset, uint64_t* length) {
  *mapping = args.mapping(0);
  if (*mapping == nullptr) return fail_closed(env), false;
  if (!args.integer(1, offset) || !args.integer(2, length) || !(*mapping)->holds(*offset, *length)) {
    return fail_range(env), false;
  }
  return true;
}

bool check_writable(napi_env env, const Mapping& mapping) {
  if (!mapping.writable()) fail(env, "READ_ONLY", "the mapping is read-only");
  return mapping.writable();
}

template <typename Body>
napi_value access(napi_env env, const Mapping& mapping, Body body) {
  FaultGuard guard;
  if (!guarded(guard, mapping.base(), mapping.size_bytes(), body)) return fail_fault(env, mapping, guard);
  return nullptr;
}

napi_value read(napi_env env, napi_callback_info info) {
  Transfer call;
  if (!call.parse(env, info)) return nullptr;
  return access(env, *call.mapping, [&] {
    kernels().read(call.bytes + call.bytes_offset, call.mapping->base() + call.offset, call.length);
  });
}

napi_value write(napi_env env, napi_callback_info info) {
  Transfer call;
  if (!call.parse(env, info) || !check_writable(env, *call.mapping)) return nullptr;
  return access(env, *call.mapping, [&] {
    persisting_copy(call.mapping->base() + call.offset, call.bytes + call.bytes_offset, call.length);
  });
}

napi_value zero(napi_env env, napi_callback_info info) {
  const Arguments<3> args(env, info);
  Mapping* mapping;
  uint64_t offset, length;
  if (!parse_range(env, args, &mapping, &offset, &length) || !check_writable(env, *mapping)) return nullptr;
  return access(env, *mapping, [&] { persisting_zero(mapping->base() + offset, length); });
}

napi_value flush(napi_env env, napi_callback_info info) {
  const Arguments<3> args(env, info);
  Mapping* mapping;
  uint64_t offset, length;
  if (!parse_range(env, args, &mapping, &offset, &length)) return nullptr;
  return access(env, *mapping, [&] { kernels().flush(mapping->base() + offset, length); });
}

napi_value fence_call(napi_env env, napi_callback_info info) {
  fence();
  return nullptr;
}

napi_value persist(napi_env env, napi_callback_info info) {
  const Arguments<1> args(env, info);
  const Mapping* mapping = args.mapping(0);
  if (mapping == nullptr) return fail_closed(env);
  const int error = mapping->persist();
  if (error != 0) return fail_with_number(env, "ERRNO", "fdatasync failed", "errno", error);
  return nullptr;
}

// (mapping, offset, length, seed)
napi_value crc_range(napi_env env, napi_callback_info info) {
  const Arguments<4> args(env, info);
  Mapping* mapping;
  uint64_t offset, length;
  uint32_t seed;
  if (!parse_range(env, args, &mapping, &offset, &length)) return nullptr;
  if (!args.word(3, &seed)) return fail_range(env);
  uint32_t crc = 0;
  FaultGuard guard;
  auto body = [&] { crc = kernels().crc32c(seed, mapping->base() + offset, length); };
  if (!guarded(guard, mapping->base(), mapping->size_bytes(), body)) return fail_fault(env, *mapping, guard);
  napi_value result;
  return napi_create_uint32(env, crc, &result) == napi_ok ? result : nullptr;
}

// (mapping, offsets, lengths, crcs, count, seed, threads): begins; `end_crcs` ends those begun first.
napi_value begin_crcs(napi_env env, napi_callback_info info) {
  const Arguments<7> args(env, info);
  Mapping* mapping = args.mapping(0);
  if (mapping == nullptr) return fail_closed(env);
  const double* offsets;
  const uint32_t* lengths;
  uint32_t* crcs;
  uint32_t count, seed, threads;
  if (!args.word(4, &count) || count > kCrcRangesMax || !args.word(5, &seed) || !args.word(6, &threads) ||
      threads == 0 || threads > kCrcThreadsMax) {
    return fail_range(env);
  }
  if (!args.items(1, napi_float64_array, count, &offsets) || !args.items(2, napi_uint32_array, count, &lengths) ||
      !args.items(3, napi_uint32_array, count, &crcs)) {
    return fail(env, "INVALID", "columns for so many ranges are needed");
  }
  CrcQueue& queue = args.state().crcs;
  if (queue.is_full()) return fail(env, "INVALID", "too many CRCs have been begun and not ended");
  uint64_t offset;
  for (uint32_t i = 0; i < count; i++) {
    if (!Arguments<1>::to_integer(offsets[i], &offset) || !mapping->holds(offset, lengths[i])) return fail_range(env);
  }
  auto run = std::make_unique<CrcRun>(*mapping, offsets, lengths, crcs, count, seed);
  for (size_t i = 1; i <= 3; i++) run->keep(Napi::Persistent(Napi::Object(env, args.value(i))));
  queue.begin(std::move(run), threads);
  return nullptr;
}

napi_value end_crcs(napi_env env, napi_callback_info info) {
  const Arguments<0> args(env, info);
  CrcQueue& queue = args.state().crcs;
  if (queue.is_empty()) return fail(env, "CLOSED", "no CRCs have been begun");
  const std::unique_ptr<CrcRun> run = queue.end();
  if (!run->good) return fail_fault(env, run->mapping, run->fault);
  return nullptr;
}

// (words, subtrees, groups, subtree, sector, count, hints)
napi_value find_hints(napi_env env, napi_callback_info info) {
  const Arguments<7> args(env, info);
  IndexMemory index;
  const int32_t* subtrees;
  const uint16_t* sectors;
  int32_t* hints;
  uint32_t count;
  if (!args.word(5, &count)) return fail_range(env);
  if (!args.column(0, napi_int32_array, &index.words, &index.word_count) ||
      !args.column(1, napi_int32_array, &index.subtrees, &index.subtree_words) ||
      !args.column(2, napi_int32_array, &index.groups, &index.group_count) ||
      !args.items(3, napi_int32_array, count, &subtrees) || !args.items(4, napi_uint16_array, count, &sectors) ||
      !args.items(6, napi_int32_array, count, &hints)) {
    return fail(env, "INVALID", "columns for so many searches are needed");
  }
  find_hints(index, subtrees, sectors, count, hints);
  return nullptr;
}

// (seed, bytes, start, end)
napi_value crc_bytes(napi_env env, napi_callback_info info) {
  const Arguments<4> args(env, info);
  uint8_t* bytes;
  size_t bytes_length;
  uint64_t start, end;
  uint32_t seed;
  if (!args.bytes(1, &bytes, &bytes_length)) return fail(env, "INVALID", "a Uint8Array is needed");
  if (!args.word(0, &seed) || !args.integer(2, &start) || !args.integer(3, &end) || start > end || end > bytes_length) {
    return fail_range(env);
  }
  napi_value result;
  const uint32_t crc = kernels().crc32c(seed, bytes + start, end - start);
  return napi_create_uint32(env, crc, &result) == napi_ok ? result : nullptr;
}

// One run over a list of reads. The entries are JavaScript memory: each field is fetched once, then checked.
class ReadRun {
 public:
  ReadRun(Mapping& mapping, const CopyList& list, const Arena& arena, uint32_t count)
      : mapping_(mapping), list_(list), arena_(arena), count_(count) {}

  // False if an entry was wrong; those before it are done.
  bool run() const {
    for (uint32_t i = 0; i < kReadAhead && i < count_; i++) ask_for(i);
    bool good = true;
    for (uint32_t i = 0; i < count_ && good; i++) {
      if (i + kReadAhead < count_) ask_for(i + kReadAhead);
      good = copy(i);
    }
    return good;
  }

 private:
  bool copy(uint32_t i) const {
    const uint64_t arena_offset = list_.arena_offset[i];
    const uint64_t length = list_.length[i];
    uint64_t offset;
    if (!Arguments<1>::to_integer(list_.pmem_offset[i], &offset) || !mapping_.holds(offset, length) ||
        !inside(arena_offset, length, arena_.length)) {
      return false;
    }
    kernels().read(arena_.bytes + arena_offset, mapping_.base() + offset, length);
    return true;
  }

  void ask_for(uint32_t i) const {
    uint64_t offset;
    if (!Arguments<1>::to_integer(list_.pmem_offset[i], &offset)) return;
    const uint64_t length = list_.length[i];
    if (mapping_.holds(offset, length)) prefetch(mapping_.base() + offset, length);
  }

  Mapping& mapping_;
  const CopyList& list_;
  const Arena& arena_;
  const uint32_t count_;
};

// What a function that takes no arguments is bound to: they cost more than the rest of the way in.
template <typename List>
struct Bound {
  State* state;
  std::shared_ptr<List> list;

  static const Bound& of(napi_env env, napi_callback_info info) {
    void* data = nullptr;
    size_t no_arguments = 0;
    napi_get_cb_info(env, info, &no_arguments, nullptr, nullptr, &data);
    return *static_cast<Bound*>(data);
  }
};

// One run over a list of pieces. They are JavaScript memory: each field is fetched once, then checked.
//
// Where the index keeps them is looked for meanwhile: what the searches need first is on its way while the first piece
// is copied.
class PieceRun {
 public:
  PieceRun(Mapping& mapping, const PieceList& list, const Arena& arena, uint32_t count)
      : mapping_(mapping), list_(list), arena_(arena), count_(count) {}

  // False if a piece was wrong; those before it are done.
  bool run() {
    if (!Arguments<1>::to_integer(*list_.pmem_offset, &pmem_offset_)) return count_ == 0;
    for (uint32_t from = 0; from < count_; from += kAbreast) {
      if (!run(list_.pieces + from, std::min(count_ - from, kAbreast))) return false;
    }
    return true;
  }

 private:
  // Searches that go on side by side.
  static constexpr uint32_t kAbreast = 64;

  bool run(Piece* pieces, uint32_t count) {
    HintSearch searches[kAbreast];
    for (uint32_t i = 0; i < count; i++) searches[i] = HintSearch(list_.index, pieces[i].subtree, pieces[i].sector);
    for (uint32_t i = 0; i < count; i++) searches[i].guess(list_.index);
    if (!copy(pieces[0])) return false;
    for (uint32_t i = 0; i < count; i++) searches[i].correct();
    for (uint32_t i = 0; i < count; i++) pieces[i].hint = searches[i].finish();
    for (uint32_t i = 1; i < count; i++) {
      if (!copy(pieces[i])) return false;
    }
    return true;
  }

  bool copy(Piece& piece) const {
    const size_t arena_offset = piece.arena_offset, length = piece.length;
    const uint64_t offset = pmem_offset_ + uint64_t{piece.offset_sectors} * kSectorBytes;
    if (!mapping_.holds(offset, length) || !inside(arena_offset, length, arena_.length)) return false;
    uint8_t* const target = mapping_.base() + offset;
    const uint8_t* const source = arena_.bytes + arena_offset;
    if (list_.with_crc) {
      piece.crc = persisting_copy_crc(kFormatSeed, target, source, length);
    } else {
      persisting_copy(target, source, length);
    }
    ask_for_page_of(target + length);
    return true;
  }

  // The next piece goes there, mostly to another page, whose lookup in the page tables would keep its stores waiting. The
  // last line of the page will be out of the cache again when it is written.
  static void ask_for_page_of(const uint8_t* place) {
    constexpr uintptr_t kLastLine = 4096 - 64;
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(place) | kLastLine));
  }

  Mapping& mapping_;
  const PieceList& list_;
  const Arena& arena_;
  const uint32_t count_;
  uint64_t pmem_offset_ = 0;
};

// () → nothing: what to run is in the `call` of the list that the function is bound to.
template <typename Run, typename List>
napi_value run_list(napi_env env, napi_callback_info info, bool writes) {
  const Bound<List>& bound = Bound<List>::of(env, info);
  const List& list = *bound.list;
  Mapping* const mapping = list.mapping;
  if (mapping == nullptr) return fail_closed(env);
  const uint32_t count = list.call[0];
  Arena* const arena = bound.state->arenas.find(list.call[1]);
  if (arena == nullptr) return fail_closed(env);
  if (count > list.capacity) return fail_range(env);
  if (writes && !check_writable(env, *mapping)) return nullptr;
  Run run(*mapping, list, *arena, count);
  bool good = false;
  FaultGuard guard;
  auto body = [&] { good = run.run(); };
  if (!guarded(bound.state->guard_slot, guard, mapping->base(), mapping->size_bytes(), body)) {
    return fail_fault(env, *mapping, guard);
  }
  return good ? nullptr : fail_range(env);
}

napi_value run_reads(napi_env env, napi_callback_info info) { return run_list<ReadRun, CopyList>(env, info, false); }

napi_value run_pieces(napi_env env, napi_callback_info info) { return run_list<PieceRun, PieceList>(env, info, true); }

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

struct HotCall {
  const char* name;
  napi_callback callback;
};

constexpr HotCall kHotCalls[] = {
    {"read", read},         {"write", write},        {"zero", zero},          {"flush", flush},
    {"fence", fence_call},  {"persist", persist},    {"crcRange", crc_range}, {"crcBytes", crc_bytes},
    {"limitCopies", limit_copies}, {"findHints", find_hints}, {"beginCrcs", begin_crcs}, {"endCrcs", end_crcs},
};

}  // namespace

namespace {

template <typename List>
napi_value make_run(napi_env env, const char* name, napi_callback callback, State* state, std::shared_ptr<List> list) {
  auto* const bound = new Bound<List>{state, std::move(list)};
  const auto release = [](napi_env, void* data, void*) { delete static_cast<Bound<List>*>(data); };
  napi_value function;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, bound, &function) != napi_ok ||
      napi_add_finalizer(env, function, bound, release, nullptr, nullptr) != napi_ok) {
    delete bound;
    return nullptr;
  }
  return function;
}

}  // namespace

napi_value make_read_run(napi_env env, State* state, std::shared_ptr<CopyList> list) {
  return make_run(env, "runReads", run_reads, state, std::move(list));
}

napi_value make_piece_run(napi_env env, State* state, std::shared_ptr<PieceList> list) {
  return make_run(env, "runPieces", run_pieces, state, std::move(list));
}

void export_hot_calls(napi_env env, napi_value exports, State* state) {
  for (const HotCall& call : kHotCalls) {
    napi_value function;
    if (napi_create_function(env, call.name, NAPI_AUTO_LENGTH, call.callback, state, &function) != napi_ok ||
        napi_set_named_property(env, exports, call.name, function) != napi_ok) {
      return;
    }
  }
}

}  // namespace pcache
