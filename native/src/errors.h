// Errors that the control plane throws, as src/engine/device/native.ts names them.
#pragma once

#include <napi.h>

namespace pcache {

inline Napi::Error coded_error(Napi::Env env, const char* code, const char* message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

}  // namespace pcache
