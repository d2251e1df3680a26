#include "interruption.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

namespace slipway {
namespace {

void nothing(int) {}

void installHandler() {
  struct sigaction action = {};
  action.sa_handler = nothing;
  sigaction(kInterruptSignal, &action, nullptr);
}

}  // namespace

void allowInterruption() {
  static const bool installed = (installHandler(), true);
  static_cast<void>(installed);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, kInterruptSignal);
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

Deadline::Deadline(int64_t milliseconds) {
  allowInterruption();
  sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = kInterruptSignal;
  event.sigev_notify_thread_id = static_cast<pid_t>(syscall(SYS_gettid));
  if (timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) return;
  timespec interval = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  itimerspec times = {interval, interval};
  armed_ = timer_settime(timer_, 0, &times, nullptr) == 0;
  if (!armed_) timer_delete(timer_);
}

Deadline::~Deadline() {
  if (armed_) timer_delete(timer_);
}

}  // namespace slipway
