// The calls of the control plane: mapping, registering memory, locking, processor features.
#include <cerrno>
#include <cstring>
#include <string>
#include <sys/file.h>

#include "cpu.h"
#include "errors.h"
#include "guard.h"
#include "huge.h"
#include "io.h"
#include "nbd-device.h"
#include "process.h"
#include "space.h"
#include "state.h"
#include "touch.h"
#include "ublk-device.h"

namespace pcache {
namespace {

constexpr const char* kCopyNames[] = {"portable", "sse2", "avx", "avx512"};
constexpr const char* kWriteBackNames[] = {"none", "clflush", "clflushopt", "clwb", "dc-cvap", "dc-cvadp"};
constexpr const char* kCrcNames[] = {"table", "hardware", "vector"};
constexpr const char* kDurabilityNames[] = {"dax", "page-cache", "volatile"};

State& state_of(const Napi::CallbackInfo& info) { return *static_cast<State*>(info.Data()); }

uint32_t handle_argument(const Napi::CallbackInfo& info) {
  return info[0].IsNumber() ? info[0].As<Napi::Number>().Uint32Value() : 0;
}

Napi::Value handle_value(Napi::Env env, uint32_t handle) {
  if (handle == 0) throw coded_error(env, "INVALID", "too many open handles");
  return Napi::Number::New(env, handle);
}

// map(fd, sizeBytes, writable, ephemeral, region) → { handle, durability, isInMemory, region }
Napi::Value map(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = info[0].As<Napi::Number>().Int32Value();
  const double size = info[1].As<Napi::Number>().DoubleValue();
  if (!(size >= 1 && size < 9007199254740992.0)) throw coded_error(env, "OUT_OF_RANGE", "size is out of range");
  install_fault_handler();
  const bool writable = info[2].ToBoolean();
  std::shared_ptr<Region> region;
  if (info[4].IsNumber()) {
    region = Region::find(info[4].As<Napi::Number>().Uint32Value());
    // Not found where each thread loads a copy of the helper of its own. A number may be another mapping's there.
    if (region && !region->is_of(fd, static_cast<uint64_t>(size), writable)) region.reset();
  }
  std::unique_ptr<Mapping> mapping(
      Mapping::create(fd, static_cast<uint64_t>(size), writable, info[3].ToBoolean(), std::move(region)));
  if (!mapping) throw errno_error(env, "mmap", errno);
  Napi::Object result = Napi::Object::New(env);
  result.Set("durability", kDurabilityNames[static_cast<int>(mapping->durability())]);
  result.Set("isInMemory", mapping->is_in_memory());
  result.Set("region", Region::share(mapping->region()));
  result.Set("handle", handle_value(env, state_of(info).mappings.add(std::move(mapping))));
  return result;
}

void unmap(const Napi::CallbackInfo& info) {
  State& state = state_of(info);
  Mapping* const mapping = state.mappings.find(handle_argument(info));
  state.crcs.drop(mapping);
  const auto let_go = [mapping](RunList& list) {
    if (list.mapping == mapping) list.mapping = nullptr;
  };
  state.lists.each(let_go);
  state.pieces.each(let_go);
  if (!state.mappings.remove(handle_argument(info))) throw coded_error(info.Env(), "CLOSED", "the handle is not open");
}

// expectScattered(mapping)
void expect_scattered(const Napi::CallbackInfo& info) {
  const Mapping* const mapping = state_of(info).mappings.find(handle_argument(info));
  if (mapping == nullptr) throw coded_error(info.Env(), "CLOSED", "the handle is not open");
  mapping->expect_scattered();
}

// registerArena(memory: Uint8Array) → handle
Napi::Value register_arena(const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw coded_error(info.Env(), "INVALID", "a Uint8Array is needed");
  }
  auto memory = info[0].As<Napi::Uint8Array>();
  auto arena = std::make_unique<Arena>();
  arena->bytes = memory.Data();
  arena->length = memory.ByteLength();
  arena->memory = Napi::Persistent(memory.As<Napi::Object>());
  return handle_value(info.Env(), state_of(info).arenas.add(std::move(arena)));
}

void unregister_arena(const Napi::CallbackInfo& info) {
  if (!state_of(info).arenas.remove(handle_argument(info))) throw coded_error(info.Env(), "CLOSED", "the handle is not open");
}

// Words of a list's `call`.
constexpr uint32_t kCallWords = 2;
constexpr uint32_t kPiecesMax = 1 << 20;

// A column of a copy list: a typed array of the right type with an element for every entry.
template <typename Element>
Element* column(const Napi::Object& list, const char* name, napi_typedarray_type type, uint32_t capacity) {
  const Napi::Value value = list.Get(name);
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type ||
      value.As<Napi::TypedArray>().ElementLength() < capacity) {
    throw coded_error(list.Env(), "INVALID", "a column of the list has the wrong type or length");
  }
  const auto array = value.As<Napi::TypedArray>();
  return reinterpret_cast<Element*>(static_cast<uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset());
}

// Result of a registration: the handle, and the function that runs the list.
Napi::Object registered(Napi::Env env, uint32_t handle, napi_value run) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("handle", handle_value(env, handle));
  result.Set("run", Napi::Value(env, run));
  return result;
}

Napi::Object object_argument(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsObject()) throw coded_error(info.Env(), "INVALID", "an object of columns is needed");
  return info[index].As<Napi::Object>();
}

// registerList(mapping, list: CopyList) → { handle, run }
Napi::Value register_list(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto object = object_argument(info, 1);
  auto list = std::make_shared<CopyList>();
  list->mapping = state_of(info).mappings.find(handle_argument(info));
  list->capacity = object.Get("capacity").As<Napi::Number>().Uint32Value();
  list->call = column<uint32_t>(object, "call", napi_uint32_array, kCallWords);
  list->pmem_offset = column<double>(object, "pmemOffsetBytes", napi_float64_array, list->capacity);
  list->arena_offset = column<uint32_t>(object, "arenaOffsetBytes", napi_uint32_array, list->capacity);
  list->length = column<uint32_t>(object, "lengthBytes", napi_uint32_array, list->capacity);
  list->list = Napi::Persistent(object);
  const uint32_t handle = state_of(info).lists.add(list);
  return registered(env, handle, make_read_run(env, &state_of(info), std::move(list)));
}

// registerPieces(mapping, list: PieceList) → { handle, run }
Napi::Value register_pieces(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto object = object_argument(info, 1);
  auto list = std::make_shared<PieceList>();
  list->mapping = state_of(info).mappings.find(handle_argument(info));
  list->capacity = object.Get("capacity").As<Napi::Number>().Uint32Value();
  if (list->capacity > kPiecesMax) throw coded_error(env, "INVALID", "too many pieces");
  list->with_crc = object.Get("withCrc").ToBoolean();
  list->call = column<uint32_t>(object, "call", napi_uint32_array, kCallWords);
  list->pmem_offset = column<double>(object, "pmemOffsetBytes", napi_float64_array, 1);
  constexpr uint32_t kPieceWords = sizeof(Piece) / sizeof(int32_t);
  list->pieces = reinterpret_cast<Piece*>(column<int32_t>(object, "words", napi_int32_array, list->capacity * kPieceWords));
  list->list = Napi::Persistent(object);
  const uint32_t handle = state_of(info).pieces.add(list);
  return registered(env, handle, make_piece_run(env, &state_of(info), std::move(list)));
}

// searchIn(pieces, words: Int32Array, subtrees: Int32Array, groups: Int32Array)
void search_in(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  PieceList* list = state_of(info).pieces.find(handle_argument(info));
  if (list == nullptr) throw coded_error(env, "CLOSED", "the handle is not open");
  for (size_t i = 1; i <= 3; i++) {
    if (!info[i].IsTypedArray() || info[i].As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) {
      throw coded_error(env, "INVALID", "an Int32Array is needed");
    }
  }
  const auto words = info[1].As<Napi::Int32Array>(), subtrees = info[2].As<Napi::Int32Array>(),
             groups = info[3].As<Napi::Int32Array>();
  list->index = {words.Data(),  words.ElementLength(),  subtrees.Data(),
                 subtrees.ElementLength(), groups.Data(), groups.ElementLength()};
  list->index_words = Napi::Persistent(words.As<Napi::Object>());
  list->index_subtrees = Napi::Persistent(subtrees.As<Napi::Object>());
  list->index_groups = Napi::Persistent(groups.As<Napi::Object>());
}

template <typename List>
void unregister(const Napi::CallbackInfo& info, HandleTable<List>& lists) {
  List* const list = lists.find(handle_argument(info));
  if (list == nullptr) throw coded_error(info.Env(), "CLOSED", "the handle is not open");
  list->close();
  lists.remove(handle_argument(info));
}

void unregister_pieces(const Napi::CallbackInfo& info) { unregister(info, state_of(info).pieces); }

void unregister_list(const Napi::CallbackInfo& info) { unregister(info, state_of(info).lists); }

// flock(fd, 'shared' | 'exclusive' | 'release') → false when another lock conflicts
Napi::Value lock_file(const Napi::CallbackInfo& info) {
  const std::string mode = info[1].As<Napi::String>();
  const int operation = mode == "exclusive" ? LOCK_EX : mode == "shared" ? LOCK_SH : LOCK_UN;
  while (flock(info[0].As<Napi::Number>().Int32Value(), operation | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return Napi::Boolean::New(info.Env(), false);
    if (errno != EINTR) throw errno_error(info.Env(), "flock", errno);
  }
  return Napi::Boolean::New(info.Env(), true);
}

Napi::Value features(const Napi::CallbackInfo& info) {
  const Cpu& has = cpu();
  const std::pair<const char*, bool> flags[] = {
      {"clwb", has.clwb}, {"clflushopt", has.clflushopt}, {"clflush", has.clflush}, {"sse42", has.sse42},
      {"pclmul", has.pclmul}, {"avx", has.avx}, {"avx2", has.avx2}, {"avx512f", has.avx512f}, {"vpclmulqdq", has.vpclmulqdq},
      {"crc32", has.crc32}, {"dcpop", has.dcpop}, {"dcpodp", has.dcpodp},
  };
  Napi::Object cpu_flags = Napi::Object::New(info.Env());
  for (const auto& [name, present] : flags) cpu_flags.Set(name, present);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("cpu", cpu_flags);
  result.Set("writeBack", kWriteBackNames[static_cast<int>(kernels().write_back)]);
  result.Set("copy", kCopyNames[static_cast<int>(kernels().copy)]);
  result.Set("crc", kCrcNames[static_cast<int>(kernels().crc)]);
  return result;
}

template <size_t N>
int index_of(const Napi::Env env, const char* const (&names)[N], const std::string& name) {
  for (size_t i = 0; i < N; i++) {
    if (name == names[i]) return static_cast<int>(i);
  }
  throw coded_error(env, "INVALID", "no such choice of instructions");
}

// select(copy, writeBack, crc) → false when this processor lacks them. For tests of the slower instructions.
Napi::Value select_kernels(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto copy = static_cast<Copy>(index_of(env, kCopyNames, info[0].ToString()));
  const auto write_back = static_cast<WriteBack>(index_of(env, kWriteBackNames, info[1].ToString()));
  const auto crc = static_cast<Crc>(index_of(env, kCrcNames, info[2].ToString()));
  return Napi::Boolean::New(env, select(copy, write_back, crc));
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* state = new State;
  env.SetInstanceData<State>(state);
  const auto add = [&](const char* name, auto callback) { exports.Set(name, Napi::Function::New(env, callback, name, state)); };
  add("map", map);
  add("unmap", unmap);
  add("expectScattered", expect_scattered);
  add("registerArena", register_arena);
  add("unregisterArena", unregister_arena);
  add("registerList", register_list);
  add("registerPieces", register_pieces);
  add("searchIn", search_in);
  add("unregisterPieces", unregister_pieces);
  add("unregisterList", unregister_list);
  add("allocateHuge", allocate_huge);
  add("flock", lock_file);
  add("transfer", transfer);
  add("writeOut", write_out);
  add("giveWay", give_way_to_writers);
  add("touchAhead", touch_ahead);
  add("nbdTake", nbd_take);
  add("nbdRun", nbd_run);
  add("nbdDisconnect", nbd_disconnect);
  add("nbdClear", nbd_clear);
  add("notifyService", notify_service);
  add("redirect", redirect);
  add("duplicate", duplicate);
  add("allocate", allocate);
  add("extents", extents);
  add("canPunch", can_punch);
  add("zeroRange", zero_range);
  add("ublkControl", ublk_control);
  add("ublkServe", ublk_serve);
  add("features", features);
  add("select", select_kernels);
  export_data_plane(env, exports, state);
  return exports;
}

}  // namespace

NODE_API_MODULE(pcache_native, init)

}  // namespace pcache
