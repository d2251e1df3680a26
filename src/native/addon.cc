/** The addon's entry: one ThreadState and one set of functions for each thread that loads it. */
#include <napi.h>

#include "exports.h"

namespace slipway {
namespace {

/**
 * Runs when the thread's environment goes. Its references go with the environment; memory that an ArrayBuffer still
 * shows stays mapped until that buffer's finalizer has run.
 */
void deleteState(napi_env, void *state, void *) { delete static_cast<ThreadState *>(state); }

Napi::Object initialize(Napi::Env env, Napi::Object target) {
  auto *state = new ThreadState(env);
  if (napi_set_instance_data(env, state, deleteState, nullptr) != napi_ok) {
    delete state;
    throw Napi::Error::New(env);
  }
  Exports exports(target, *state);
  exportRegions(exports);
  exportScratch(exports);
  exportSockets(exports);
  exportDatagrams(exports);
  exportEvents(exports);
  exportChecksum(exports);
  exportThreads(exports);
  exportUnix(exports);
  exportUring(exports);
  exportWatch(exports);
  exportKvm(exports);
  exportVcpu(exports);
  return target;
}

}  // namespace

NODE_API_MODULE(slipway, initialize)

}  // namespace slipway
