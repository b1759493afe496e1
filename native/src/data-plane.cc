// The calls of the data plane, in raw Node-API and with scalar arguments. Every call checks its handles and
// bounds before it touches anything; what is wrong is thrown as an Error with a `code`: CLOSED, OUT_OF_RANGE,
// READ_ONLY, INVALID, ERRNO (with `errno`), FAULT or FAULT_MEMORY (with `offsetBytes`).
#include <memory>

#include "call.h"
#include "copy.h"
#include "cpu.h"
#include "crc32c.h"
#include "hints.h"

namespace pcache {
namespace {

constexpr uint32_t kCrcRangesMax = 1 << 20;
constexpr uint32_t kCrcThreadsMax = 64;

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


template <size_t N>
bool parse_range(napi_env env, const Arguments<N>& args, Mapping** mapping, uint64_t* offset, uint64_t* length) {
  *mapping = args.mapping(0);
  if (*mapping == nullptr) return fail_closed(env), false;
  if (!args.integer(1, offset) || !args.integer(2, length) || !(*mapping)->holds(*offset, *length)) {
    return fail_range(env), false;
  }
  return true;
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
  if (call.mapping->read_file(call.offset, call.bytes + call.bytes_offset, call.length)) return nullptr;
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

struct DataPlaneCall {
  const char* name;
  napi_callback callback;
};

constexpr DataPlaneCall kDataPlaneCalls[] = {
    {"read", read},         {"write", write},        {"zero", zero},          {"flush", flush},
    {"fence", fence_call},  {"persist", persist},    {"crcRange", crc_range}, {"crcBytes", crc_bytes},
    {"limitCopies", limit_copies}, {"findHints", find_hints}, {"beginCrcs", begin_crcs}, {"endCrcs", end_crcs},
    {"sendNow", send_now},
};

}  // namespace

void export_data_plane(napi_env env, napi_value exports, State* state) {
  for (const DataPlaneCall& call : kDataPlaneCalls) {
    napi_value function;
    if (napi_create_function(env, call.name, NAPI_AUTO_LENGTH, call.callback, state, &function) != napi_ok ||
        napi_set_named_property(env, exports, call.name, function) != napi_ok) {
      return;
    }
  }
}

}  // namespace pcache
