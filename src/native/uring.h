/** One io_uring: its descriptor and its mappings, gone with the thread that made it. */
#pragma once

#include <cstdint>
#include <memory>

#include "mapping.h"

struct io_uring_sqe;
struct io_uring_cqe;
struct io_uring_params;

namespace slipway {

/**
 * A ring for one thread, which makes it and enters it. The kernel's part is not shown to TypeScript: `stage` (uring.cc)
 * copies entries of the exchange and checks the copies, so that nothing that was checked can change before the kernel reads it.
 */
class Uring {
 public:
  /** Null with errno set if the kernel refuses. */
  static std::unique_ptr<Uring> create(uint32_t entries, uint32_t completions);

  Uring(const Uring &) = delete;
  Uring &operator=(const Uring &) = delete;
  ~Uring();

  uint32_t entries() const { return entries_; }
  /** Entries that the kernel hasn't taken. */
  uint32_t unsubmitted() const;
  uint32_t room() const { return entries_ - unsubmitted(); }
  /** The `n`-th entry from the tail, zeroed; the kernel sees it after `publish`. */
  io_uring_sqe &prepare(uint32_t n);
  void publish(uint32_t count);
  /** Whether the kernel holds completions back that an enter would bring: work of this thread, or an overflow. */
  bool pending() const;
  uint32_t completions() const;
  /** Moves at most `capacity` completions to `out`; their number. */
  uint32_t reap(io_uring_cqe *out, uint32_t capacity);
  /** io_uring_enter(2); `timeout` in ms, negative: none. Negative errno. */
  int enter(uint32_t least, int32_t timeout, bool wait);

 private:
  Uring() = default;
  bool map(const io_uring_params &params);

  int fd_ = -1;
  uint32_t entries_ = 0;
  uint32_t mask_ = 0;
  uint32_t waitFlags_ = 0;
  uint32_t completionMask_ = 0;
  std::shared_ptr<Mapping> rings_;
  std::shared_ptr<Mapping> sqes_;
  uint32_t *sqHead_ = nullptr;
  uint32_t *sqTail_ = nullptr;
  uint32_t *sqFlags_ = nullptr;
  uint32_t *cqHead_ = nullptr;
  uint32_t *cqTail_ = nullptr;
  io_uring_cqe *cqes_ = nullptr;
};

}  // namespace slipway
