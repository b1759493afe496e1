// The open objects of one JavaScript environment (the main thread, or a worker). Freed with the environment.
#pragma once

#include <memory>
#include <napi.h>

#include "crc_run.h"
#include "guard.h"
#include "handles.h"
#include "mapping.h"
#include "hints.h"

namespace pcache {

// JavaScript memory that copies go from and to. The reference keeps it alive, so its address stays valid.
struct Arena {
  uint8_t* bytes;
  size_t length;
  Napi::ObjectReference memory;
};

// A list that JavaScript has registered to be run in one call. The reference keeps the list object alive, so the
// addresses of its columns stay valid.
struct RunList {
  // Null once the mapping or the list is closed: the list is not run then, and no member below is used.
  Mapping* mapping;
  uint32_t capacity;
  // Arguments of a run: number of entries, handle of the arena.
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

// One piece of payload; the layout is `PieceWord` in src/engine/device/pmem.ts.
struct Piece {
  uint32_t arena_offset;
  uint32_t length;
  uint32_t offset_sectors;
  int32_t subtree;
  int32_t sector;
  int32_t hint;
  uint32_t crc;
  int32_t request;
};
static_assert(sizeof(Piece) == 32);

// Pieces that are written together, and the index that is searched meanwhile.
struct PieceList : RunList {
  bool with_crc;
  const double* pmem_offset;  // offset on the device that the offset of each piece is relative to
  Piece* pieces;
  // The index to search; empty for none.
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
  // The fault guard of the environment's thread.
  GuardSlot& guard_slot = current_guard;
  // Runs that have begun and not ended. Declared after the mappings, so that it is destroyed before them.
  CrcQueue crcs;
};

// Make the functions that run a list on its mapping. JavaScript may keep them longer than list or mapping are open.
napi_value make_read_run(napi_env env, State* state, std::shared_ptr<CopyList> list);
napi_value make_piece_run(napi_env env, State* state, std::shared_ptr<PieceList> list);

// Adds the calls of the data plane to `exports`; they use `state` until the environment ends.
void export_data_plane(napi_env env, napi_value exports, State* state);

}  // namespace pcache
