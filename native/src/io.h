// Reads and writes of a file off the main thread.
#pragma once

#include <napi.h>

namespace pcache {

void transfer(const Napi::CallbackInfo& info);
void write_out(const Napi::CallbackInfo& info);
void give_way_to_writers(const Napi::CallbackInfo& info);

}  // namespace pcache
