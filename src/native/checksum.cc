/** The Internet checksum (RFC 1071) over iovecs. */
#include <cstring>

#include "exports.h"
#include "scratch.h"

namespace slipway {
namespace {

/** Adds the carries back in until 16 bits are left (RFC 1071 §2C). Only a sum of zeroes folds to zero. */
uint16_t fold(uint64_t sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

/** The ones' complement sum of the bytes as little-endian words; a last odd byte counts as if a zero followed it. */
uint16_t sumOf(const uint8_t *bytes, size_t length) {
  uint64_t sum = 0;
  uint64_t carries = 0;
  uint64_t word;
  for (; length >= sizeof word; bytes += sizeof word, length -= sizeof word) {
    std::memcpy(&word, bytes, sizeof word);
    carries += __builtin_add_overflow(sum, word, &sum);
  }
  word = 0;
  std::memcpy(&word, bytes, length);
  carries += __builtin_add_overflow(sum, word, &sum);
  // 2^64 is 1 modulo 2^16 - 1: each carry counts one.
  return fold(uint64_t{fold(sum)} + carries);
}

int32_t checksum(ThreadState &state, uint32_t first, uint32_t count, uint32_t seed) {
  int32_t refusal = gatherIovecs(state, first, count);
  if (refusal != 0) return refusal;
  uint64_t sum = 0;
  bool odd = false;
  for (uint32_t i = 0; i < count; i++) {
    const iovec &part = state.kernelIovecs[i];
    uint16_t partSum = sumOf(static_cast<const uint8_t *>(part.iov_base), part.iov_len);
    // A part that begins at an odd byte is summed with the halves of its words changed over (RFC 1071 §2B).
    sum += odd ? __builtin_bswap16(partSum) : partSum;
    odd = odd != (part.iov_len % 2 != 0);
  }
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the sum is swapped to network order below");
  return fold(uint64_t{__builtin_bswap16(fold(sum))} + seed);
}

}  // namespace

void exportChecksum(Exports &exports) { exports.hot<checksum>("checksum"); }

}  // namespace slipway
