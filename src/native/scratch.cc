/** The scratch arrays that hot functions exchange with TypeScript: binding them, iovecs, the clock. */
#include "scratch.h"

#include <ctime>

#include "arguments.h"
#include "exports.h"

namespace slipway {

int32_t gatherIovecs(ThreadState &state, uint32_t first, uint32_t count) {
  if (count > state.kernelIovecs.size() || !state.iovecs.usable(state.env)) return -EINVAL;
  // 64-bit sums: nothing here wraps.
  if ((uint64_t{first} + count) * 3 > state.iovecs.length) return -EINVAL;
  const uint32_t *triple = state.iovecs.data + size_t{first} * 3;
  for (uint32_t i = 0; i < count; i++, triple += 3) {
    // Read once: if the scratch is shared, another thread could change it between the check and the use.
    uint32_t index = __atomic_load_n(&triple[0], __ATOMIC_RELAXED);
    uint32_t offset = __atomic_load_n(&triple[1], __ATOMIC_RELAXED);
    uint32_t length = __atomic_load_n(&triple[2], __ATOMIC_RELAXED);
    if (index >= state.regions.size()) return -EFAULT;
    const Region &region = state.regions[index];
    // A free region has size 0 and no data: not even an empty range lies in it.
    if (region.data == nullptr || uint64_t{offset} + length > region.size) return -EFAULT;
    state.kernelIovecs[i] = iovec{region.data + offset, length};
  }
  return 0;
}

int32_t readClock(ThreadState &state) {
  if (!state.clock.usable(state.env)) return -EINVAL;
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  uint64_t nanoseconds = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  state.clock.data[0] = static_cast<int32_t>(static_cast<uint32_t>(nanoseconds / 1'000'000));
  state.clock.data[1] = static_cast<int32_t>(static_cast<uint32_t>(nanoseconds / 1'000));
  if (state.clock.length > 2) state.clock.data[2] = static_cast<int32_t>(static_cast<uint32_t>(nanoseconds));
  return 0;
}

namespace {

/** Takes a typed array of `type` and at least `minLength` elements for `bound`, in place of the one before. */
template <typename Element>
BoundArray<Element> boundArgument(const Napi::CallbackInfo &info, size_t index, napi_typedarray_type type,
                                  size_t minLength) {
  napi_env env = info.Env();
  napi_typedarray_type actualType;
  size_t length = 0;
  void *data = nullptr;
  napi_value buffer;
  size_t byteOffset;
  bool valid = info[index].IsTypedArray() &&
               napi_get_typedarray_info(env, info[index], &actualType, &length, &data, &buffer, &byteOffset) == napi_ok;
  if (!valid || actualType != type || length < minLength || length > UINT32_MAX || data == nullptr) {
    std::string detail = "scratch array " + std::to_string(index + 1) + " has the wrong type or is too short";
    throw systemError(info.Env(), "bindScratch", EINVAL, detail.c_str());
  }
  // The memory of a resizable ArrayBuffer can go without being detached. (A growable SharedArrayBuffer only grows.)
  if (Napi::Object(env, buffer).Get("resizable").ToBoolean()) {
    throw systemError(info.Env(), "bindScratch", EINVAL, "scratch must not lie in a resizable ArrayBuffer");
  }
  BoundArray<Element> bound;
  bound.data = static_cast<Element *>(data);
  bound.length = static_cast<uint32_t>(length);
  if (napi_is_arraybuffer(env, buffer, &bound.detachable) != napi_ok ||
      napi_create_reference(env, buffer, 1, &bound.buffer) != napi_ok) {
    throw Napi::Error::New(info.Env());
  }
  return bound;
}

template <typename Element>
void rebind(napi_env env, BoundArray<Element> &bound, const BoundArray<Element> &next) {
  if (bound.buffer != nullptr) napi_delete_reference(env, bound.buffer);
  bound = next;
}

void bindScratch(const Napi::CallbackInfo &info) {
  ThreadState &state = stateOf(info);
  auto iovecs = boundArgument<uint32_t>(info, 0, napi_uint32_array, 3);
  auto events = boundArgument<int32_t>(info, 1, napi_int32_array, 3);
  auto clock = boundArgument<int32_t>(info, 2, napi_int32_array, 2);
  rebind(state.env, state.iovecs, iovecs);
  rebind(state.env, state.events, events);
  rebind(state.env, state.clock, clock);
}

}  // namespace

void exportScratch(Exports &exports) {
  exports.setUp<bindScratch>("bindScratch");
  exports.hot<readClock>("readClock");
}

}  // namespace slipway
