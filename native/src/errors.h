// Errors of the control plane; src/engine/device/native.ts names their codes.
#pragma once

#include <cstring>
#include <napi.h>
#include <string>

namespace pcache {

inline Napi::Error coded_error(Napi::Env env, const char* code, const char* message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

inline Napi::Error errno_error(Napi::Env env, const char* doing, int number) {
  Napi::Error error = coded_error(env, "ERRNO", (std::string(doing) + ": " + strerror(number)).c_str());
  error.Set("errno", Napi::Number::New(env, number));
  return error;
}

}  // namespace pcache
