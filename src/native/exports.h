/**
 * How functions of the addon are made known to JavaScript.
 *
 * Set-up functions are written with node-addon-api and throw. Hot functions are plain C++ over 32-bit integers, of type
 * `int32_t (ThreadState &, int32_t or uint32_t …)`; `Hot` puts the least of N-API around them.
 */
#pragma once

#include <napi.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "thread_state.h"

namespace slipway {

template <auto Function>
struct Hot;

template <typename... Integers, int32_t (*Function)(ThreadState &, Integers...)>
struct Hot<Function> {
  static constexpr size_t kArity = sizeof...(Integers);

  /** Arguments that are no numbers give -EINVAL; numbers are taken modulo 2^32, so signed and unsigned ones will do. */
  static napi_value call(napi_env env, napi_callback_info info) {
    // One longer than needed: an array can't be empty.
    napi_value values[kArity + 1];
    int32_t integers[kArity + 1];
    size_t count = kArity;
    void *state = nullptr;
    napi_get_cb_info(env, info, &count, values, nullptr, &state);
    bool valid = true;
    for (size_t i = 0; i < kArity; i++) valid = valid && napi_get_value_int32(env, values[i], &integers[i]) == napi_ok;
    int32_t result =
        valid ? apply(*static_cast<ThreadState *>(state), integers, std::index_sequence_for<Integers...>()) : -EINVAL;
    napi_value value = nullptr;
    napi_create_int32(env, result, &value);
    return value;
  }

 private:
  template <size_t... Index>
  static int32_t apply(ThreadState &state, [[maybe_unused]] const int32_t *integers, std::index_sequence<Index...>) {
    return Function(state, static_cast<Integers>(integers[Index])...);
  }
};

/** The addon's `exports` in one thread. */
class Exports {
 public:
  Exports(Napi::Object target, ThreadState &state) : target_(target), state_(&state) {}

  template <auto Function>
  void hot(const char *name) {
    target_.Set(name, Napi::Function(target_.Env(), make(name, Hot<Function>::call)));
  }

  /** `Function` is `Napi::Value (const Napi::CallbackInfo &)`, or returns void. */
  template <auto Function>
  void setUp(const char *name) {
    target_.Set(name, Napi::Function::New<Function>(target_.Env(), name, state_));
  }

 private:
  napi_value make(const char *name, napi_callback callback) {
    napi_value function = nullptr;
    napi_status status = napi_create_function(target_.Env(), name, NAPI_AUTO_LENGTH, callback, state_, &function);
    if (status != napi_ok) throw Napi::Error::New(target_.Env());
    return function;
  }

  Napi::Object target_;
  ThreadState *state_;
};

/** The state of the thread that a set-up function was called in. */
inline ThreadState &stateOf(const Napi::CallbackInfo &info) { return *static_cast<ThreadState *>(info.Data()); }

void exportRegions(Exports &exports);
void exportScratch(Exports &exports);
void exportSockets(Exports &exports);
void exportDatagrams(Exports &exports);
void exportEvents(Exports &exports);
void exportChecksum(Exports &exports);
void exportThreads(Exports &exports);
void exportUnix(Exports &exports);
void exportUring(Exports &exports);
void exportWatch(Exports &exports);
void exportKvm(Exports &exports);
void exportVcpu(Exports &exports);

}  // namespace slipway
