/** Threads: on which CPUs the calling one runs, and a way to call one back from the kernel. */
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>

#include "arguments.h"
#include "exports.h"
#include "interruption.h"

namespace slipway {
namespace {

/** What x86-64 kernels are built for at most (CONFIG_NR_CPUS); sched_getaffinity(2) refuses sets smaller than its own. */
constexpr int kMaxCpus = 8192;
constexpr size_t kSetBytes = CPU_ALLOC_SIZE(kMaxCpus);

union CpuSet {
  cpu_set_t head;
  unsigned long words[kSetBytes / sizeof(unsigned long)];
};

Napi::Value getAffinity(const Napi::CallbackInfo &info) {
  CpuSet set = {};
  checked(info.Env(), "sched_getaffinity", sched_getaffinity(0, kSetBytes, &set.head));
  Napi::Array cpus = Napi::Array::New(info.Env());
  for (size_t cpu = 0; cpu < kMaxCpus; cpu++) {
    if (!CPU_ISSET_S(cpu, kSetBytes, &set.head)) continue;
    cpus.Set(cpus.Length(), Napi::Number::New(info.Env(), static_cast<double>(cpu)));
  }
  return cpus;
}

void setAffinity(const Napi::CallbackInfo &info) {
  CpuSet set = {};
  for (int cpu : integersArgument(info, 0, "sched_setaffinity", kMaxCpus - 1, kMaxCpus)) {
    CPU_SET_S(static_cast<size_t>(cpu), kSetBytes, &set.head);
  }
  checked(info.Env(), "sched_setaffinity", sched_setaffinity(0, kSetBytes, &set.head));
}

Napi::Value threadId(const Napi::CallbackInfo &info) {
  allowInterruption();
  return Napi::Number::New(info.Env(), static_cast<double>(syscall(SYS_gettid)));
}

int32_t interruptThread(ThreadState &, int32_t thread) {
  return syscall(SYS_tgkill, getpid(), thread, kInterruptSignal) == 0 ? 0 : -errno;
}

}  // namespace

void exportThreads(Exports &exports) {
  exports.setUp<getAffinity>("getAffinity");
  exports.setUp<setAffinity>("setAffinity");
  exports.setUp<threadId>("threadId");
  exports.hot<interruptThread>("interruptThread");
}

}  // namespace slipway
