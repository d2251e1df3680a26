/** What the addon keeps for each thread (N-API environment) that loads it. Nothing here is shared between threads. */
#pragma once

#include <napi.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "mapping.h"
#include "uring.h"

namespace slipway {

class Vcpu;

/** A mapping as TypeScript names it; free if `mapping` is null. */
struct Region {
  std::shared_ptr<Mapping> mapping;
  /** First byte that TypeScript sees: `mapping`'s base, plus what block alignment put before it. */
  uint8_t *data = nullptr;
  /** Bytes that TypeScript sees, at most 4 GiB. */
  uint64_t size = 0;
  /** Strong: the buffer lives as long as the region. */
  napi_ref buffer = nullptr;
};

/** A typed array named by `bindScratch`. */
template <typename Element>
struct BoundArray {
  Element *data = nullptr;
  uint32_t length = 0;
  /** Strong, to the array's buffer: while this is held, its memory stays where it is, unless it's detached. */
  napi_ref buffer = nullptr;
  /** An ArrayBuffer can be detached, a SharedArrayBuffer can't. */
  bool detachable = false;

  /** Whether `data` may be touched. */
  bool usable(napi_env env) const {
    if (data == nullptr) return false;
    if (!detachable) return true;
    napi_value value;
    bool detached = true;
    return napi_get_reference_value(env, buffer, &value) == napi_ok &&
           napi_is_detached_arraybuffer(env, value, &detached) == napi_ok && !detached;
  }
};

struct ThreadState {
  explicit ThreadState(napi_env owner) : env(owner) {}

  napi_env env;
  std::vector<Region> regions;
  std::vector<std::shared_ptr<Vcpu>> vcpus;
  BoundArray<uint32_t> iovecs;
  BoundArray<int32_t> events;
  BoundArray<int32_t> clock;
  /** What the kernel reads and fills, on the scratch's behalf: here, so that no call pays for it. */
  std::array<epoll_event, 1024> epollEvents;
  std::array<iovec, 1024> kernelIovecs;
  /** Null until `uringCreate`; gone with the thread. */
  std::unique_ptr<Uring> uring;
  /** The region that entries and completions are exchanged in, with bytes used, and completions that fit. */
  uint32_t uringRegion = 0;
  uint32_t uringCompletions = 0;
  uint64_t uringExchangeBytes = 0;
};

}  // namespace slipway
