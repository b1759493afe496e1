// What one JavaScript environment (the main thread, or a worker) has open. Freed with the environment.
#pragma once

#include <memory>
#include <napi.h>

#include "crc_run.h"
#include "guard.h"
#include "handles.h"
#include "mapping.h"
#include "places.h"

namespace pcache {

// JavaScript memory that copies go from and to. The reference keeps it alive, so its address may be kept.
struct Arena {
  uint8_t* bytes;
  size_t length;
  Napi::ObjectReference memory;
};

// What JavaScript has registered to be run in one call. The addresses of its columns may be kept because the reference
// keeps the list object alive.
struct RunList {
  // Null once either is gone: the list is not run then, and nothing below is looked at.
  Mapping* mapping;
  uint32_t capacity;
  // What a run is told: how many entries, and the handle of the arena.
  const uint32_t* call;
  Napi::ObjectReference list;

  void close() {
    mapping = nullptr;
    list.Reset();
  }
};

// The columns of a list of reads.
struct CopyList : RunList {
  const double* pmem_offset;
  const uint32_t* arena_offset;
  const uint32_t* length;
};

// One piece of payload as JavaScript lays it out: `PieceWord` in src/engine/device/pmem.ts.
struct Piece {
  uint32_t arena_offset;
  uint32_t length;
  uint32_t offset_sectors;
  int32_t subtree;
  int32_t sector;
  int32_t place;
  uint32_t crc;
  int32_t request;
};
static_assert(sizeof(Piece) == 32);

// Pieces that are written together, and the searches beside that.
struct PieceList : RunList {
  bool with_crc;
  const double* pmem_offset;  // where they go, beyond which each has its own
  Piece* pieces;
  // What it looks into, if anything.
  IndexMemory index;
  Napi::ObjectReference index_words;
  Napi::ObjectReference index_subtrees;
  Napi::ObjectReference index_groups;

  void close() {
    RunList::close();
    index_words.Reset();
    index_subtrees.Reset();
    index_groups.Reset();
  }
};

struct State {
  HandleTable<Mapping> mappings;
  HandleTable<Arena> arenas;
  HandleTable<CopyList> lists;
  HandleTable<PieceList> pieces;
  // Of the environment's thread.
  GuardSlot& guard_slot = current_guard;
  // Begun and not ended; declared after the mappings, so that it ends before they do.
  CrcQueue crcs;
};

// The functions that run a list on its mapping. They may be kept longer than either is open.
napi_value make_read_run(napi_env env, State* state, std::shared_ptr<CopyList> list);
napi_value make_piece_run(napi_env env, State* state, std::shared_ptr<PieceList> list);

// Adds the calls of the data plane to `exports`; they use `state` until the environment ends.
void export_hot_calls(napi_env env, napi_value exports, State* state);

}  // namespace pcache
