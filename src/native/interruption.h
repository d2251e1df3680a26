/**
 * Interrupting a thread that a system call keeps: by a signal whose handler does nothing and restarts nothing, so that
 * the call returns EINTR (signal(7)). SIGURG, since it is ignored where nobody handles it.
 */
#pragma once

#include <signal.h>

#include <cstdint>
#include <ctime>

namespace slipway {

constexpr int kInterruptSignal = SIGURG;

/** Makes the calling thread one that `kInterruptSignal` interrupts. */
void allowInterruption();

/** Interrupts the calling thread again and again while it lives. */
class Deadline {
 public:
  /** @param milliseconds until the first interruption, and between them */
  explicit Deadline(int64_t milliseconds);
  ~Deadline();
  Deadline(const Deadline &) = delete;
  Deadline &operator=(const Deadline &) = delete;

  /** Whether there is a deadline at all: the kernel may be out of timers. */
  bool armed() const { return armed_; }

 private:
  timer_t timer_ = {};
  bool armed_ = false;
};

}  // namespace slipway
