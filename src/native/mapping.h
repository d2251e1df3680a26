/** A range of mapped memory, guarded against files that shrink under their mapping. */
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace slipway {

/** x86-64; a page is what mmap(2) aligns to outside hugetlbfs. */
constexpr uint64_t kPageSize = 4096;

/** The least multiple of `unit` from `value` on. */
inline uint64_t roundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

/**
 * One mmap'd range, unmapped once: by `unmap` or by the destructor, whichever comes first. Shared by the region table
 * and by the finalizer of the ArrayBuffer over it, since either may go first.
 */
class Mapping {
 public:
  /** `bytes` of zeroes, private to this process. Null with errno set if the kernel refuses. */
  static std::shared_ptr<Mapping> anonymous(uint64_t bytes);
  /**
   * `bytes` of `fd` from `fileOffset` (both multiples of the file's block size), shared, guarded against SIGBUS. Null
   * with errno set if the kernel refuses, or if all guard slots are taken (ENOMEM).
   */
  static std::shared_ptr<Mapping> file(int fd, uint64_t fileOffset, uint64_t bytes);

  Mapping(const Mapping &) = delete;
  Mapping &operator=(const Mapping &) = delete;
  ~Mapping() { unmap(); }

  /** munmap(2); a second call does nothing. */
  void unmap();
  /** Whether a touch found its page gone, and the range was replaced by zeroes. */
  bool faulted() const;
  uint8_t *base() const { return base_; }

 private:
  static constexpr int kUnguarded = -1;

  Mapping(uint8_t *base, uint64_t bytes, int guard) : base_(base), bytes_(bytes), guard_(guard) {}

  uint8_t *base_;
  uint64_t bytes_;
  /** Index in the table that the SIGBUS handler searches; -1: not there. */
  int guard_;
};

}  // namespace slipway
