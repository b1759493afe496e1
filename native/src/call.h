// What the calls of the data plane share, in raw Node-API: their arguments, their checks and their errors. An error is
// thrown with a `code`: CLOSED, OUT_OF_RANGE, READ_ONLY, INVALID, ERRNO (with `errno`), FAULT or FAULT_MEMORY (with
// `offsetBytes`).
#pragma once

#include <node_api.h>

#include "guard.h"
#include "state.h"

namespace pcache {

constexpr double kSafeIntegers = 9007199254740992.0;  // 2^53
// Reads are prefetched this far ahead of their turn.
constexpr uint32_t kReadAhead = 2;

inline napi_value fail(napi_env env, const char* code, const char* message) {
  napi_throw_error(env, code, message);
  return nullptr;
}

inline napi_value fail_with_number(napi_env env, const char* code, const char* message, const char* name, double number) {
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

inline napi_value fail_closed(napi_env env) { return fail(env, "CLOSED", "the handle is not open"); }
inline napi_value fail_range(napi_env env) { return fail(env, "OUT_OF_RANGE", "offset and length are out of range"); }

inline napi_value fail_fault(napi_env env, const Mapping& mapping, const FaultGuard& guard) {
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

inline bool inside(uint64_t offset, uint64_t length, uint64_t size) { return length <= size && offset <= size - length; }

inline bool check_writable(napi_env env, const Mapping& mapping) {
  if (!mapping.writable()) fail(env, "READ_ONLY", "the mapping is read-only");
  return mapping.writable();
}

// Measures the copies of a list and nothing else (copy-limit.cc).
napi_value limit_copies(napi_env env, napi_callback_info info);

// Sends what a socket takes at once (socket.cc).
napi_value send_now(napi_env env, napi_callback_info info);

}  // namespace pcache
