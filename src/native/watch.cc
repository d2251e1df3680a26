/** Watching a descriptor from the thread's own event loop. */
#include <napi.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <optional>

#include "arguments.h"
#include "exports.h"
#include "libuv.h"

namespace slipway {
namespace {

/**
 * One uv_poll_t. Shared by libuv, from `start` until it has let go of the handle, and by the JavaScript that can close
 * it.
 */
class Watcher : public std::enable_shared_from_this<Watcher> {
 public:
  Watcher(Napi::Env env, Napi::Function callback, int events)
      : env_(env),
        context_(std::in_place, env, "slipway:watch"),
        callback_(Napi::Persistent(callback)),
        events_(events) {
    poll_ = static_cast<uv_poll_s *>(std::calloc(1, uv_handle_size(UV_POLL)));
    if (poll_ == nullptr) throw std::bad_alloc();
    uv_handle_set_data(base(), this);
  }
  Watcher(const Watcher &) = delete;
  Watcher &operator=(const Watcher &) = delete;
  ~Watcher() { std::free(poll_); }

  /** 0 or -errno; then nothing is watched. */
  int start(int fd) {
    uv_loop_s *loop;
    if (napi_get_uv_event_loop(env_, &loop) != napi_ok) throw Napi::Error::New(env_);
    int error = uv_poll_init(loop, poll_, fd);
    if (error != 0) return error;
    self_ = shared_from_this();
    // An asynchronous hook: Node waits for libuv to let go before it takes the loop down.
    napi_add_async_cleanup_hook(env_, atThreadEnd, this, &hook_);
    error = uv_poll_start(poll_, events_, onReady);
    if (error != 0) close();
    return error;
  }

  /** Calls nothing back from here on. A second call does nothing. */
  void close() {
    if (closing_) return;
    closing_ = true;
    uv_close(base(), onClosed);
  }

 private:
  uv_handle_s *base() const { return reinterpret_cast<uv_handle_s *>(poll_); }
  static Watcher *of(const uv_handle_s *handle) { return static_cast<Watcher *>(uv_handle_get_data(handle)); }

  static void onReady(uv_poll_s *poll, int status, int) {
    Watcher *watcher = of(reinterpret_cast<uv_handle_s *>(poll));
    // libuv stops watching after EPOLLERR. The callback finds the error with its next system call; until then the
    // descriptor stays ready, as any other.
    if (status < 0) uv_poll_start(poll, watcher->events_, onReady);
    watcher->call();
  }

  /** The callback may close the watcher: that takes effect in `onClosed`, after this has returned. */
  void call() {
    Napi::Env env(env_);
    Napi::HandleScope scope(env);
    // Unlike a plain call, this runs process.nextTick's and promises' queues afterwards.
    napi_value result;
    napi_make_callback(env_, *context_, env.Global(), callback_.Value(), 0, nullptr, &result);
    bool thrown = false;
    napi_value error;
    if (napi_is_exception_pending(env_, &thrown) != napi_ok || !thrown) return;
    if (napi_get_and_clear_last_exception(env_, &error) == napi_ok) napi_fatal_exception(env_, error);
  }

  static void onClosed(uv_handle_s *handle) {
    std::shared_ptr<Watcher> watcher = std::move(of(handle)->self_);
    Napi::HandleScope scope(watcher->env_);
    watcher->callback_.Reset();
    watcher->context_.reset();
    napi_remove_async_cleanup_hook(watcher->hook_);
  }

  static void atThreadEnd(napi_async_cleanup_hook_handle, void *watcher) { static_cast<Watcher *>(watcher)->close(); }

  napi_env env_;
  std::optional<Napi::AsyncContext> context_;
  Napi::FunctionReference callback_;
  int events_;
  uv_poll_s *poll_;
  bool closing_ = false;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  /** libuv's share. */
  std::shared_ptr<Watcher> self_;
};

/** The libuv events that `{ readable, writable }` asks for. */
int eventsArgument(const Napi::CallbackInfo &info, size_t index) {
  if (!info[index].IsObject()) throw systemError(info.Env(), "watch", EINVAL, "expected { readable?, writable? }");
  Napi::Object wanted = info[index].As<Napi::Object>();
  int readable = wanted.Get("readable").ToBoolean() ? UV_READABLE : 0;
  int writable = wanted.Get("writable").ToBoolean() ? UV_WRITABLE : 0;
  if ((readable | writable) == 0) throw systemError(info.Env(), "watch", EINVAL, "nothing to watch for");
  return readable | writable;
}

Napi::Value watch(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  int fd = fdArgument(info, 0, "watch");
  int events = eventsArgument(info, 1);
  if (!info[2].IsFunction()) throw systemError(env, "watch", EINVAL, "expected a callback");
  auto watcher = std::make_shared<Watcher>(env, info[2].As<Napi::Function>(), events);
  int error = watcher->start(fd);
  if (error != 0) throw systemError(env, "watch", -error);
  Napi::Object result = Napi::Object::New(env);
  result.Set("close", Napi::Function::New(env, [watcher](const Napi::CallbackInfo &) { watcher->close(); }, "close"));
  return result;
}

}  // namespace

void exportWatch(Exports &exports) { exports.setUp<watch>("watch"); }

}  // namespace slipway
