/** The table of regions of the calling thread. */
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>

#include "thread_state.h"

namespace slipway {

/** Enters `size` bytes of the mapping, from byte `lead`, in the table; returns `{ region, buffer }`. */
Napi::Value addRegion(const Napi::CallbackInfo &info, std::shared_ptr<Mapping> mapping, uint64_t lead, uint64_t size);

/** The region that argument `index` names. Throws ERANGE, in the name of `syscall`, for one that isn't there. */
Region &regionArgument(const Napi::CallbackInfo &info, size_t index, const char *syscall);

}  // namespace slipway
