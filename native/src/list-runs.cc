// Runs over the lists of reads and of pieces that JavaScript has registered: the hot path of the data plane.
#include <algorithm>
#include <memory>

#include "call.h"
#include "copy.h"
#include "crc32c.h"
#include "hints.h"

namespace pcache {
namespace {

constexpr uint64_t kSectorBytes = 512;

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

}  // namespace pcache
