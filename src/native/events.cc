/** epoll and eventfd. */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "errors.h"
#include "exports.h"
#include "interruption.h"
#include "scratch.h"

namespace slipway {
namespace {

/** Elements of the events scratch for each event: token, generation, bits. */
constexpr uint32_t kEventElements = 3;
/** How long somebody else's eventfd may keep a thread that has other work. */
constexpr int64_t kForeignMilliseconds = 10;

Napi::Value epollCreate(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), checked(info.Env(), "epoll_create1", epoll_create1(EPOLL_CLOEXEC)));
}

int32_t epollAdd(ThreadState &, int32_t epoll, int32_t fd, uint32_t events, uint32_t token, uint32_t generation) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = uint64_t{generation} << 32 | token;
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

int32_t epollDelete(ThreadState &, int32_t epoll, int32_t fd) {
  return epoll_ctl(epoll, EPOLL_CTL_DEL, fd, nullptr) == 0 ? 0 : -errno;
}

int32_t epollWait(ThreadState &state, int32_t epoll, int32_t timeout) {
  if (!state.events.usable(state.env)) return -EINVAL;
  size_t capacity = std::min<size_t>(state.events.length / kEventElements, state.epollEvents.size());
  int count = epoll_wait(epoll, state.epollEvents.data(), static_cast<int>(capacity), timeout);
  int error = errno;
  readClock(state);
  if (count < 0) return error == EINTR ? 0 : -error;
  int32_t *out = state.events.data;
  for (int i = 0; i < count; i++, out += kEventElements) {
    const epoll_event &event = state.epollEvents[static_cast<size_t>(i)];
    out[0] = static_cast<int32_t>(static_cast<uint32_t>(event.data.u64));
    out[1] = static_cast<int32_t>(static_cast<uint32_t>(event.data.u64 >> 32));
    out[2] = static_cast<int32_t>(event.events);
  }
  return count;
}

Napi::Value eventfdCreate(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), checked(info.Env(), "eventfd", eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)));
}

int32_t eventfdSignal(ThreadState &, int32_t fd) {
  uint64_t one = 1;
  return write(fd, &one, sizeof one) == sizeof one ? 0 : -errno;
}

/** Whoever else has the eventfd can fill it and make it blocking, at any time: so nothing but a signal ends the wait. */
int32_t eventfdSignalForeign(ThreadState &state, int32_t fd) {
  Deadline deadline(kForeignMilliseconds);
  return deadline.armed() ? eventfdSignal(state, fd) : -EAGAIN;
}

int32_t eventfdDrain(ThreadState &, int32_t fd) {
  uint64_t count;
  return read(fd, &count, sizeof count) == sizeof count ? 0 : -errno;
}

}  // namespace

void exportEvents(Exports &exports) {
  exports.setUp<epollCreate>("epollCreate");
  exports.hot<epollAdd>("epollAdd");
  exports.hot<epollDelete>("epollDelete");
  exports.hot<epollWait>("epollWait");
  exports.setUp<eventfdCreate>("eventfdCreate");
  exports.hot<eventfdSignal>("eventfdSignal");
  exports.hot<eventfdSignalForeign>("eventfdSignalForeign");
  exports.hot<eventfdDrain>("eventfdDrain");
}

}  // namespace slipway
