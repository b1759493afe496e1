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

// Where a payload job's words say what: `JobWord` in src/engine/device/pmem.ts.
enum JobWord { kJobArena, kJobArenaOffset, kJobLength, kJobSubtree, kJobSector, kJobPlace, kJobCrc, kJobWords };

// One write at a time, and the search beside it; kept alive as a copy list is.
struct PayloadJob {
  uint32_t mapping;
  bool with_crc;
  const double* pmem_offset;
  int32_t* words;
  Napi::ObjectReference job;
  // What it looks into, if anything.
  IndexMemory index;
  Napi::ObjectReference index_words;
  Napi::ObjectReference index_subtrees;
};

struct State {
  HandleTable<Mapping> mappings;
  HandleTable<Arena> arenas;
  HandleTable<CopyList> lists;
  HandleTable<PayloadJob> jobs;
  // Begun and not ended; declared after the mappings, so that it ends before they do.
  CrcQueue crcs;
};

// The functions that run the list, and the job, of that handle on its mapping. They outlive it harmlessly.
napi_value make_read_run(napi_env env, State* state, uint32_t list_handle);
napi_value make_job_run(napi_env env, State* state, uint32_t job_handle);

// Adds the calls of the data plane to `exports`; they use `state` until the environment ends.
void export_hot_calls(napi_env env, napi_value exports, State* state);

}  // namespace pcache
