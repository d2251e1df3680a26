/**
 * Mappings, and the SIGBUS handler that guards them.
 *
 * A vhost-user front end shares its memory with us as a file, and may truncate that file at any moment: the next touch
 * of a page that is gone raises SIGBUS, which would kill the whole process for one hostile guest's sake. The handler
 * puts zeroes where the mapping was, so that the touch goes on and the thread learns of it from `faulted`.
 */
#include "mapping.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>

namespace slipway {
namespace {

/**
 * The guarded mappings of all threads. A whole mapping is one word, so that the handler, which may run while other
 * threads map and unmap, never sees half of one: faulted (bit 63) | first page (bits 22 … 62) | pages (bits 0 … 21);
 * 0 is free.
 */
constexpr int kGuards = 4096;
constexpr int kPagesBits = 22;
constexpr uint64_t kPagesMask = (uint64_t{1} << kPagesBits) - 1;
constexpr uint64_t kFaulted = uint64_t{1} << 63;
std::atomic<uint64_t> guards[kGuards];

static_assert(std::atomic<uint64_t>::is_always_lock_free, "a signal handler must not wait for a lock");
static_assert(kPagesMask * kPageSize > (uint64_t{1} << 33), "4 GiB and two huge pages of 1 GiB must fit");
static_assert((uint64_t{1} << 41) * kPageSize > (uint64_t{1} << 47), "user addresses must fit");

struct sigaction previousAction;

uint64_t firstPage(uint64_t word) { return (word & ~kFaulted) >> kPagesBits; }
uint64_t pageCount(uint64_t word) { return word & kPagesMask; }

/** Replaces the guarded mapping that holds `address` by private zeroes. False if there is none, or no memory. */
bool replaceMapping(uintptr_t address) {
  uint64_t page = address / kPageSize;
  for (auto &guard : guards) {
    uint64_t word = guard.load();
    if (page - firstPage(word) >= pageCount(word)) continue;
    // The raw system call is async-signal-safe whatever libc does in its wrapper. MAP_FIXED also replaces hugetlbfs
    // mappings: the range is aligned to their pages.
    long result = syscall(SYS_mmap, firstPage(word) * kPageSize, pageCount(word) * kPageSize, PROT_READ | PROT_WRITE,
                          MAP_FIXED | MAP_ANONYMOUS | MAP_PRIVATE | MAP_NORESERVE, -1, 0);
    if (result == -1) return false;
    guard.fetch_or(kFaulted);
    return true;
  }
  return false;
}

/** Does what would have been done without us: the earlier handler's work, or death. */
void passOn(int signal, siginfo_t *info, void *context) {
  if ((previousAction.sa_flags & SA_SIGINFO) != 0) {
    previousAction.sa_sigaction(signal, info, context);
  } else if (previousAction.sa_handler != SIG_DFL && previousAction.sa_handler != SIG_IGN) {
    previousAction.sa_handler(signal);
  } else if (previousAction.sa_handler == SIG_DFL || info->si_code > 0) {
    // The faulting instruction runs again after this, now to its death; a signal that was sent must be sent again.
    struct sigaction byDefault = {};
    byDefault.sa_handler = SIG_DFL;
    sigaction(signal, &byDefault, nullptr);
    if (info->si_code <= 0) syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signal);
  }
}

/** Async-signal-safe: atomics and raw system calls only. */
void onBusError(int signal, siginfo_t *info, void *context) {
  int error = errno;
  // BUS_ADRERR is a page beyond the end of its file; memory failures (BUS_MCEERR_*) and signals sent by kill(2) aren't
  // ours.
  bool ours = info->si_code == BUS_ADRERR && replaceMapping(reinterpret_cast<uintptr_t>(info->si_addr));
  if (!ours) passOn(signal, info, context);
  errno = error;
}

void installHandler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = onBusError;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    // The old action must be in place before the first fault: nothing is guarded before this returns.
    sigaction(SIGBUS, &action, &previousAction);
  });
}

/** Takes a free guard for the range. Returns its index, or -1 if all are taken. */
int takeGuard(const void *base, uint64_t bytes) {
  uint64_t word = (reinterpret_cast<uintptr_t>(base) / kPageSize) << kPagesBits | bytes / kPageSize;
  for (int index = 0; index < kGuards; index++) {
    uint64_t free = 0;
    if (guards[index].compare_exchange_strong(free, word)) return index;
  }
  return -1;
}

}  // namespace

std::shared_ptr<Mapping> Mapping::anonymous(uint64_t bytes) {
  void *base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  return std::shared_ptr<Mapping>(new Mapping(static_cast<uint8_t *>(base), bytes, kUnguarded));
}

std::shared_ptr<Mapping> Mapping::file(int fd, uint64_t fileOffset, uint64_t bytes) {
  installHandler();
  void *base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(fileOffset));
  if (base == MAP_FAILED) return nullptr;
  int guard = takeGuard(base, bytes);
  if (guard < 0) {
    munmap(base, bytes);
    errno = ENOMEM;
    return nullptr;
  }
  return std::shared_ptr<Mapping>(new Mapping(static_cast<uint8_t *>(base), bytes, guard));
}

void Mapping::unmap() {
  if (base_ == nullptr) return;
  // The guard goes first: once unmapped, the kernel may give the range to another thread's mapping at once.
  if (guard_ != kUnguarded) guards[guard_].store(0);
  munmap(base_, bytes_);
  base_ = nullptr;
}

bool Mapping::faulted() const {
  return base_ != nullptr && guard_ != kUnguarded && (guards[guard_].load() & kFaulted) != 0;
}

}  // namespace slipway
