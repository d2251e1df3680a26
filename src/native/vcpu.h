/** A vCPU's thread: runs the guest, and waits for its exit to be handled. */
#pragma once

#include <linux/kvm.h>
#include <pthread.h>

#include <atomic>
#include <cstdint>

namespace slipway {

/**
 * A thread around KVM_RUN. It stops at each exit, says so by an eventfd, and runs on when told to: whoever handles exits
 * reads and answers them in the vCPU's kvm_run page meanwhile. Made stopped. All members are for one other thread.
 */
class Vcpu {
 public:
  /** Takes duplicates of both descriptors. `error()` says how that went. */
  Vcpu(int vcpu, uint64_t runSize, int exits);
  Vcpu(const Vcpu &) = delete;
  Vcpu &operator=(const Vcpu &) = delete;
  /** Ends the thread, whatever the guest does. */
  ~Vcpu();

  /** 0, or the errno of what failed. */
  int error() const { return error_; }
  /** Enters the guest. Only a stopped vCPU may be told so: -EBUSY. */
  int32_t resume();
  /** Makes a running vCPU stop with -EINTR, soon; does nothing to a stopped one. */
  void kick();
  /** 1: stopped at an exit; 0: running; -errno: stopped, since KVM_RUN failed. */
  int32_t state() const;

 private:
  static void *threadMain(void *vcpu);
  void loop();
  void waitForResume();

  static constexpr int32_t kRunning = 0;
  static constexpr int32_t kStopped = 1;

  int fd_;
  int exits_;
  uint64_t runSize_;
  kvm_run *run_;
  int error_ = 0;
  bool started_ = false;
  pthread_t thread_ = {};
  /** A futex: kRunning, kStopped or -errno. */
  std::atomic<int32_t> state_{kStopped};
  std::atomic<bool> ending_{false};
};

}  // namespace slipway
