// What one JavaScript environment (the main thread, or a worker) has open. Freed with the environment.
#pragma once

#include <napi.h>

#include "crc_run.h"
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

// The columns of a list of reads; their addresses may be kept because the reference keeps the list object alive.
// `call` is what a run is told: how many entries, and the handle of the arena.
struct CopyList {
  uint32_t capacity;
  uint32_t mapping;
  const uint32_t* call;
  const double* pmem_offset;
  const uint32_t* arena_offset;
  const uint32_t* length;
  Napi::ObjectReference list;
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

// Pieces that are written together, and the searches beside that; kept alive as a copy list is.
struct PieceList {
  uint32_t capacity;
  uint32_t mapping;
  bool with_crc;
  const uint32_t* call;
  const double* pmem_offset;  // where they go, beyond which each has its own
  Piece* pieces;
  Napi::ObjectReference list;
  // What it looks into, if anything.
  IndexMemory index;
  Napi::ObjectReference index_words;
  Napi::ObjectReference index_subtrees;
};

struct State {
  HandleTable<Mapping> mappings;
  HandleTable<Arena> arenas;
  HandleTable<CopyList> lists;
  HandleTable<PieceList> pieces;
  // Begun and not ended; declared after the mappings, so that it ends before they do.
  CrcQueue crcs;
};

// The functions that run the list of that handle on its mapping. They outlive it harmlessly.
napi_value make_read_run(napi_env env, State* state, uint32_t list_handle);
napi_value make_piece_run(napi_env env, State* state, uint32_t pieces_handle);

// Adds the calls of the data plane to `exports`; they use `state` until the environment ends.
void export_hot_calls(napi_env env, napi_value exports, State* state);

}  // namespace pcache
