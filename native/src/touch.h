// Maps pages before they are needed; see touch.cc.
#pragma once

#include <napi.h>

namespace pcache {

void touch_ahead(const Napi::CallbackInfo& info);

}  // namespace pcache
