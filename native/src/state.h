// What one JavaScript environment (the main thread, or a worker) has open. Freed with the environment.
#pragma once

#include <napi.h>

#include "crc_run.h"
#include "handles.h"
#include "mapping.h"

namespace pcache {

// JavaScript memory that copies go from and to. The reference keeps it alive, so its address may be kept.
struct Arena {
  uint8_t* bytes;
  size_t length;
  Napi::ObjectReference memory;
};

// The columns of a copy list; their addresses may be kept because the reference keeps the list object alive.
// `call` is what a run is told: how many entries, and the handle of the arena.
struct CopyList {
  uint32_t capacity;
  uint32_t mapping;
  const uint32_t* call;
  const uint8_t* kind;
  const double* pmem_offset;
  const uint32_t* arena_offset;
  const uint32_t* length;
  uint32_t* crc;
  Napi::ObjectReference list;
};

struct State {
  HandleTable<Mapping> mappings;
  HandleTable<Arena> arenas;
  HandleTable<CopyList> lists;
  // Begun and not ended; declared after the mappings, so that it ends before they do.
  CrcQueue crcs;
};

// The function that runs the list of that handle on its mapping. It outlives the list harmlessly.
napi_value make_copy_run(napi_env env, State* state, uint32_t list_handle);

// Adds the calls of the data plane to `exports`; they use `state` until the environment ends.
void export_hot_calls(napi_env env, napi_value exports, State* state);

}  // namespace pcache
