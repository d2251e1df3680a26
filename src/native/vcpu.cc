/** vCPU threads, and the functions by which TypeScript drives them. */
#include "vcpu.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>

#include "arguments.h"
#include "exports.h"

namespace slipway {
namespace {

/** Interrupts KVM_RUN. Neither Node nor libuv uses real-time signals. */
int kickSignal() { return SIGRTMIN + 4; }

void futexWait(std::atomic<int32_t> &word, int32_t seen) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
}

void futexWake(std::atomic<int32_t> &word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

/** A handler that does nothing: what counts is that ioctl(2) returns. */
void installKickHandler() {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  sigaction(kickSignal(), &action, nullptr);
}

/** The signals that a vCPU thread takes: the kick, and what its own instructions raise. */
sigset_t blockedSignals() {
  sigset_t set;
  sigfillset(&set);
  for (int signal : {kickSignal(), SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP}) sigdelset(&set, signal);
  return set;
}

}  // namespace

Vcpu::Vcpu(int vcpu, uint64_t runSize, int exits)
    : fd_(fcntl(vcpu, F_DUPFD_CLOEXEC, 0)), exits_(fcntl(exits, F_DUPFD_CLOEXEC, 0)), runSize_(runSize) {
  void *page = mmap(nullptr, runSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (fd_ < 0 || exits_ < 0 || page == MAP_FAILED) error_ = errno;
  run_ = page == MAP_FAILED ? nullptr : static_cast<kvm_run *>(page);
  if (error_ != 0) return;
  installKickHandler();
  // The new thread inherits the mask: no signal of the process ever interrupts a guest.
  sigset_t blocked = blockedSignals();
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  error_ = pthread_create(&thread_, nullptr, threadMain, this);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  started_ = error_ == 0;
}

Vcpu::~Vcpu() {
  if (started_) {
    ending_.store(true);
    kick();
    // A stopped thread waits for this word.
    state_.store(kRunning);
    futexWake(state_);
    pthread_join(thread_, nullptr);
  }
  if (run_ != nullptr) munmap(run_, runSize_);
  if (fd_ >= 0) close(fd_);
  if (exits_ >= 0) close(exits_);
}

int32_t Vcpu::resume() {
  if (state_.load() == kRunning) return -EBUSY;
  __atomic_store_n(&run_->immediate_exit, 0, __ATOMIC_RELEASE);
  state_.store(kRunning);
  futexWake(state_);
  return 0;
}

void Vcpu::kick() {
  // Before the signal: a thread that is about to enter the guest finds it (api.rst, immediate_exit).
  __atomic_store_n(&run_->immediate_exit, 1, __ATOMIC_RELEASE);
  pthread_kill(thread_, kickSignal());
}

int32_t Vcpu::state() const { return state_.load(); }

void *Vcpu::threadMain(void *vcpu) {
  static_cast<Vcpu *>(vcpu)->loop();
  return nullptr;
}

void Vcpu::loop() {
  for (waitForResume(); !ending_.load(); waitForResume()) {
    int32_t outcome = ioctl(fd_, KVM_RUN, 0) == 0 ? kStopped : -errno;
    if (ending_.load()) return;
    state_.store(outcome);
    uint64_t one = 1;
    // The counter can't overflow; nothing else can fail.
    [[maybe_unused]] ssize_t written = write(exits_, &one, sizeof one);
  }
}

void Vcpu::waitForResume() {
  for (int32_t seen = state_.load(); seen != kRunning && !ending_.load(); seen = state_.load()) futexWait(state_, seen);
}

namespace {

Vcpu *find(ThreadState &state, uint32_t index) {
  return index < state.vcpus.size() ? state.vcpus[index].get() : nullptr;
}

Napi::Value vcpuStart(const Napi::CallbackInfo &info) {
  int fd = fdArgument(info, 0, "vcpu");
  uint64_t runSize = unsignedArgument(info, 1, "vcpu", uint64_t{1} << 20);
  int exits = fdArgument(info, 2, "vcpu");
  if (runSize < sizeof(kvm_run)) throw systemError(info.Env(), "vcpu", EINVAL, "the kvm_run page is longer");
  auto vcpu = std::make_shared<Vcpu>(fd, runSize, exits);
  if (vcpu->error() != 0) throw systemError(info.Env(), "vcpu", vcpu->error());
  auto &vcpus = stateOf(info).vcpus;
  size_t index = 0;
  while (index < vcpus.size() && vcpus[index] != nullptr) index++;
  if (index == vcpus.size()) vcpus.emplace_back();
  vcpus[index] = std::move(vcpu);
  return Napi::Number::New(info.Env(), static_cast<double>(index));
}

void vcpuEnd(const Napi::CallbackInfo &info) {
  auto &vcpus = stateOf(info).vcpus;
  uint64_t index = unsignedArgument(info, 0, "vcpu", UINT32_MAX);
  if (index >= vcpus.size() || vcpus[index] == nullptr) throw systemError(info.Env(), "vcpu", ERANGE, "no such vCPU");
  vcpus[index] = nullptr;
}

int32_t vcpuResume(ThreadState &state, uint32_t index) {
  Vcpu *vcpu = find(state, index);
  return vcpu == nullptr ? -EINVAL : vcpu->resume();
}

int32_t vcpuKick(ThreadState &state, uint32_t index) {
  Vcpu *vcpu = find(state, index);
  if (vcpu == nullptr) return -EINVAL;
  vcpu->kick();
  return 0;
}

int32_t vcpuState(ThreadState &state, uint32_t index) {
  Vcpu *vcpu = find(state, index);
  return vcpu == nullptr ? -EINVAL : vcpu->state();
}

}  // namespace

void exportVcpu(Exports &exports) {
  exports.setUp<vcpuStart>("vcpuStart");
  exports.setUp<vcpuEnd>("vcpuEnd");
  exports.hot<vcpuResume>("vcpuResume");
  exports.hot<vcpuKick>("vcpuKick");
  exports.hot<vcpuState>("vcpuState");
}

}  // namespace slipway
