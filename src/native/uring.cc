/** io_uring(7), entered once per cycle: submits what TypeScript wrote, waits, and brings completions back. */
#include "uring.h"

#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "arguments.h"
#include "exports.h"
#include "scratch.h"

namespace slipway {
namespace {

/**
 * One thread submits, and completions are worked off when that thread enters, not by interrupts of what it does
 * (Linux 6.1). The flag that says so lets a poll for nothing cost no system call.
 */
constexpr uint32_t kSetupFlags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
constexpr uint32_t kNeededFeatures =
    IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP;
/** Linux 6.15, beyond Debian 12's headers: a wait for readiness isn't a wait for a disk, and isn't accounted as one. */
constexpr uint32_t kFeatureNoIowait = 1u << 17;
constexpr uint32_t kEnterNoIowait = 1u << 7;
constexpr uint8_t kNeededOpcodes[] = {IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL};

/** Whether the kernel knows all opcodes that `fill` lets through; errno says if it doesn't. */
bool opcodesThere(int ring) {
  alignas(io_uring_probe) uint8_t buffer[sizeof(io_uring_probe) + IORING_OP_LAST * sizeof(io_uring_probe_op)] = {};
  if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_PROBE, buffer, IORING_OP_LAST) != 0) return false;
  auto *ops = reinterpret_cast<const io_uring_probe_op *>(buffer + sizeof(io_uring_probe));
  errno = EOPNOTSUPP;
  return std::all_of(std::begin(kNeededOpcodes), std::end(kNeededOpcodes),
                     [ops](uint8_t opcode) { return (ops[opcode].flags & IO_URING_OP_SUPPORTED) != 0; });
}

}  // namespace

std::unique_ptr<Uring> Uring::create(uint32_t entries, uint32_t completions) {
  io_uring_params params = {};
  params.flags = kSetupFlags;
  params.cq_entries = std::max(entries, completions);
  long fd = syscall(SYS_io_uring_setup, entries, &params);
  if (fd < 0) return nullptr;
  std::unique_ptr<Uring> ring(new Uring());
  ring->fd_ = static_cast<int>(fd);
  if (!opcodesThere(ring->fd_)) return nullptr;
  if ((params.features & kNeededFeatures) != kNeededFeatures) {
    errno = EOPNOTSUPP;
    return nullptr;
  }
  ring->waitFlags_ = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
  if ((params.features & kFeatureNoIowait) != 0) ring->waitFlags_ |= kEnterNoIowait;
  return ring->map(params) ? std::move(ring) : nullptr;
}

bool Uring::map(const io_uring_params &params) {
  uint64_t ringBytes = std::max<uint64_t>(params.sq_off.array + params.sq_entries * sizeof(uint32_t),
                                          params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe));
  rings_ = Mapping::file(fd_, IORING_OFF_SQ_RING, roundUp(ringBytes, kPageSize));
  if (rings_ == nullptr) return false;
  sqes_ = Mapping::file(fd_, IORING_OFF_SQES, roundUp(params.sq_entries * sizeof(io_uring_sqe), kPageSize));
  if (sqes_ == nullptr) return false;
  auto word = [&](uint32_t offset) { return reinterpret_cast<uint32_t *>(rings_->base() + offset); };
  entries_ = params.sq_entries;
  mask_ = *word(params.sq_off.ring_mask);
  completionMask_ = *word(params.cq_off.ring_mask);
  sqHead_ = word(params.sq_off.head);
  sqTail_ = word(params.sq_off.tail);
  sqFlags_ = word(params.sq_off.flags);
  cqHead_ = word(params.cq_off.head);
  cqTail_ = word(params.cq_off.tail);
  cqes_ = reinterpret_cast<io_uring_cqe *>(rings_->base() + params.cq_off.cqes);
  // Entries are used in the order of their places.
  for (uint32_t place = 0; place < entries_; place++) word(params.sq_off.array)[place] = place;
  return true;
}

Uring::~Uring() {
  // Closing cancels what is pending, and lets go of the files that polls kept.
  if (fd_ >= 0) close(fd_);
}

uint32_t Uring::unsubmitted() const { return *sqTail_ - __atomic_load_n(sqHead_, __ATOMIC_ACQUIRE); }

io_uring_sqe &Uring::prepare(uint32_t n) {
  auto &entry = reinterpret_cast<io_uring_sqe *>(sqes_->base())[(*sqTail_ + n) & mask_];
  std::memset(&entry, 0, sizeof entry);
  return entry;
}

void Uring::publish(uint32_t count) { __atomic_store_n(sqTail_, *sqTail_ + count, __ATOMIC_RELEASE); }

bool Uring::pending() const {
  return (__atomic_load_n(sqFlags_, __ATOMIC_ACQUIRE) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

uint32_t Uring::completions() const { return __atomic_load_n(cqTail_, __ATOMIC_ACQUIRE) - *cqHead_; }

uint32_t Uring::reap(io_uring_cqe *out, uint32_t capacity) {
  uint32_t count = std::min(completions(), capacity);
  uint32_t head = *cqHead_;
  for (uint32_t i = 0; i < count; i++) std::memcpy(&out[i], &cqes_[(head + i) & completionMask_], sizeof(io_uring_cqe));
  __atomic_store_n(cqHead_, head + count, __ATOMIC_RELEASE);
  return count;
}

int Uring::enter(uint32_t least, int32_t timeout, bool wait) {
  __kernel_timespec time = {timeout / 1000, timeout % 1000 * 1'000'000LL};
  io_uring_getevents_arg argument = {};
  if (least > 0 && timeout >= 0) argument.ts = reinterpret_cast<uint64_t>(&time);
  uint32_t flags = wait ? waitFlags_ : 0;
  long result = syscall(SYS_io_uring_enter, fd_, unsubmitted(), least, flags, wait ? &argument : nullptr,
                        wait ? sizeof argument : 0);
  return result < 0 ? -errno : static_cast<int>(result);
}

namespace {

/** Takes over what an operation is about. False for operations that aren't let through: none that is names memory. */
bool fill(const io_uring_sqe &from, io_uring_sqe &to) {
  if (from.opcode == IORING_OP_POLL_ADD) {
    to.poll32_events = from.poll32_events;
    to.len = IORING_POLL_ADD_MULTI;
  } else if (from.opcode == IORING_OP_ASYNC_CANCEL) {
    to.addr = from.addr;  // user data, which the kernel compares and doesn't follow
    to.flags = IOSQE_CQE_SKIP_SUCCESS;
  } else {
    return false;
  }
  to.opcode = from.opcode;
  to.fd = from.fd;
  to.user_data = from.user_data;
  return true;
}

uint8_t *exchangeOf(const ThreadState &state) { return state.regions[state.uringRegion].data; }

/** Counts a system call, in the word that ends the exchange. */
void countCall(const ThreadState &state) {
  uint8_t *at = exchangeOf(state) + state.uringExchangeBytes - sizeof(uint32_t);
  uint32_t calls;
  std::memcpy(&calls, at, sizeof calls);
  calls++;
  std::memcpy(at, &calls, sizeof calls);
}

/** Time-outs, signals, and shortages that pass once completions were fetched: entries stay in the ring for the next time. */
bool passing(int32_t error) {
  return error == -ETIME || error == -EINTR || error == -EBUSY || error == -EAGAIN || error == -ENOMEM;
}

/** Checks the first `count` entries of the exchange and puts them into the ring: all of them or none. */
int32_t stage(ThreadState &state, uint32_t count) {
  Uring &ring = *state.uring;
  if (count > ring.room()) return -EBUSY;
  const uint8_t *at = exchangeOf(state);
  for (uint32_t i = 0; i < count; i++, at += sizeof(io_uring_sqe)) {
    io_uring_sqe from;
    std::memcpy(&from, at, sizeof from);
    if (!fill(from, ring.prepare(i))) return -EINVAL;
  }
  ring.publish(count);
  return 0;
}

/** The ring is there, and the region of its exchange still is as `uringCreate` found it. */
bool usable(const ThreadState &state) {
  return state.uring != nullptr && state.uringRegion < state.regions.size() &&
         state.regions[state.uringRegion].size >= state.uringExchangeBytes;
}

int32_t uringEnter(ThreadState &state, uint32_t count, uint32_t least, int32_t timeout) {
  if (!usable(state)) return -EINVAL;
  Uring &ring = *state.uring;
  int32_t refusal = stage(state, count);
  if (refusal != 0) return refusal;
  int32_t error = 0;
  if (ring.unsubmitted() > 0 || ring.pending() || ring.completions() < least) {
    error = ring.enter(least, timeout, true);
    countCall(state);
  }
  readClock(state);
  if (error < 0 && !passing(error)) return error;
  uint8_t *out = exchangeOf(state) + ring.entries() * sizeof(io_uring_sqe);
  return static_cast<int32_t>(ring.reap(reinterpret_cast<io_uring_cqe *>(out), state.uringCompletions));
}

int32_t uringSubmit(ThreadState &state, uint32_t count) {
  if (!usable(state)) return -EINVAL;
  int32_t refusal = stage(state, count);
  if (refusal != 0) return refusal;
  countCall(state);
  int32_t taken = state.uring->enter(0, 0, false);
  return passing(taken) ? 0 : taken;
}

void uringCreate(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  ThreadState &state = stateOf(info);
  state.uring.reset();
  uint64_t region = unsignedArgument(info, 0, "io_uring_setup", UINT32_MAX);
  uint64_t entries = unsignedArgument(info, 1, "io_uring_setup", 4096);
  uint64_t completions = unsignedArgument(info, 2, "io_uring_setup", 65'536);
  uint64_t bytes = entries * sizeof(io_uring_sqe) + completions * sizeof(io_uring_cqe) + sizeof(uint32_t);
  bool fits = region < state.regions.size() && bytes <= state.regions[region].size;
  if (!fits || entries == 0 || (entries & (entries - 1)) != 0 || completions == 0) {
    throw systemError(env, "io_uring_setup", EINVAL, "entries aren't a power of two, or don't fit the region");
  }
  state.uring = Uring::create(static_cast<uint32_t>(entries), static_cast<uint32_t>(completions));
  if (state.uring == nullptr) throw systemError(env, "io_uring_setup", errno);
  state.uringRegion = static_cast<uint32_t>(region);
  state.uringCompletions = static_cast<uint32_t>(completions);
  state.uringExchangeBytes = bytes;
}

void uringClose(const Napi::CallbackInfo &info) { stateOf(info).uring.reset(); }

}  // namespace

void exportUring(Exports &exports) {
  exports.setUp<uringCreate>("uringCreate");
  exports.hot<uringEnter>("uringEnter");
  exports.hot<uringSubmit>("uringSubmit");
  exports.setUp<uringClose>("uringClose");
}

}  // namespace slipway
