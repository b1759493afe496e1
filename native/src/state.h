// What one JavaScript environment (the main thread, or a worker) has open. Freed with the environment.
#pragma once

#include <napi.h>

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
struct CopyList {
  uint32_t capacity;
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
};

// Adds the calls of the data plane to `exports`; they use `state` until the environment ends.
void export_hot_calls(napi_env env, napi_value exports, State* state);

}  // namespace pcache
