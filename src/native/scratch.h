/** The scratch arrays that hot functions exchange with TypeScript. */
#pragma once

#include <cstdint>

#include "thread_state.h"

namespace slipway {

/**
 * Turns triples `first` … `first + count - 1` of the bound iovecs into `state.kernelIovecs`. Returns 0; -EINVAL if
 * there are no such triples or more than 1,024; -EFAULT if one lies outside its region.
 */
int32_t gatherIovecs(ThreadState &state, uint32_t first, uint32_t count);

/** Reads CLOCK_MONOTONIC into the bound clock. Returns 0; -EINVAL if none is bound. */
int32_t readClock(ThreadState &state);

}  // namespace slipway
