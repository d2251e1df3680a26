/*
 * The wire format of a bulk stream, for the client in the guest (bulk.c) and its server on the host.
 *
 * The client opens the connection and sends a `struct bulk_request`. Whoever sends the data sends `bytes` bytes of
 * bulk_fill()'s pattern for `seed`, then a `struct bulk_sum` over what it sent, and keeps the connection open; the other
 * end answers with its own `struct bulk_sum` over what it received and closes. Both ends compare. Little-endian.
 *
 * The pattern differs at each 8-byte position, and the sum depends on the order, so lost, repeated, swapped and foreign
 * bytes all show; bulk_check() names the first wrong position too.
 */
#ifndef SLIPWAY_BENCH_BULK_H
#define SLIPWAY_BENCH_BULK_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

enum { BULK_BLOCK = 64 * 1024 };
static const uint32_t BULK_MAGIC = 0x31425753; /* "SWB1" */

enum bulk_direction { BULK_CLIENT_SENDS = 1, BULK_CLIENT_RECEIVES = 2 };

struct bulk_request {
    uint32_t magic, direction;
    uint64_t bytes, seed;
};

struct bulk_sum {
    uint64_t bytes, checksum;
};

/* A running checksum: FNV-1a's step over 64-bit words instead of bytes; bytes that fill no word wait in `partial`. */
struct bulk_state {
    struct bulk_sum sum;
    uint64_t seed, partial, wrong_at;
};

static inline struct bulk_state bulk_begin(uint64_t seed) {
    return (struct bulk_state){.sum = {.checksum = 0xcbf29ce484222325u}, .seed = seed, .wrong_at = UINT64_MAX};
}

/* The word at `position` (bytes / 8) of the pattern. */
static inline uint64_t bulk_word(uint64_t seed, uint64_t position) {
    uint64_t x = (position + (seed << 40) + 1) * 0x9e3779b97f4a7c15u;
    return x ^ x >> 29;
}

/* Writes the pattern from byte `offset`, a multiple of 8, on; `length` is rounded up to whole words. */
static inline void bulk_fill(uint64_t seed, uint64_t offset, uint64_t *words, size_t length) {
    for (size_t i = 0; i < (length + 7) / 8; i++) words[i] = bulk_word(seed, offset / 8 + i);
}

/* Takes a whole word into the sum and compares it with the pattern. */
static inline void bulk_take_word(struct bulk_state *state, uint64_t word) {
    uint64_t offset = state->sum.bytes & ~7ull;
    if (word != bulk_word(state->seed, offset / 8) && state->wrong_at == UINT64_MAX) state->wrong_at = offset;
    state->sum.checksum = (state->sum.checksum ^ word) * 0x100000001b3u;
}

/* Takes received (or sent) bytes, in stream order, in pieces of any length. */
static inline void bulk_check(struct bulk_state *state, const unsigned char *bytes, size_t length) {
    while (length) {
        unsigned within = state->sum.bytes & 7;
        if (!within && length >= 8) {
            uint64_t word;
            memcpy(&word, bytes, 8);
            bulk_take_word(state, word);
            state->sum.bytes += 8, bytes += 8, length -= 8;
            continue;
        }
        state->partial |= (uint64_t)*bytes++ << 8 * within;
        length--;
        if (within == 7) {
            bulk_take_word(state, state->partial);
            state->partial = 0;
        }
        state->sum.bytes++;
    }
}

/* The sum over all bytes taken, a last unfinished word among them (filled up with zeroes). */
static inline struct bulk_sum bulk_end(const struct bulk_state *state) {
    struct bulk_sum sum = state->sum;
    if (sum.bytes & 7) sum.checksum = (sum.checksum ^ state->partial) * 0x100000001b3u;
    return sum;
}

/* Sends all of `length` bytes; 0 or an errno. */
static inline int bulk_send_all(int fd, const void *data, size_t length) {
    for (size_t sent = 0; sent < length;) {
        ssize_t n = send(fd, (const char *)data + sent, length - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        sent += (size_t)n;
    }
    return 0;
}

/* Receives exactly `length` bytes; 0, an errno, or ENODATA if the stream ended before. */
static inline int bulk_receive_all(int fd, void *data, size_t length) {
    for (size_t got = 0; got < length;) {
        ssize_t n = recv(fd, (char *)data + got, length - got, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n ? errno : ENODATA;
        got += (size_t)n;
    }
    return 0;
}

/* Sends the pattern and its sum, and reads the other end's sum. 0 or an errno. */
static inline int bulk_send(int fd, uint64_t seed, uint64_t bytes, struct bulk_sum *mine, struct bulk_sum *theirs) {
    uint64_t block[BULK_BLOCK / 8];
    struct bulk_state state = bulk_begin(seed);
    int error;
    for (uint64_t offset = 0; offset < bytes;) {
        size_t length = bytes - offset < BULK_BLOCK ? (size_t)(bytes - offset) : BULK_BLOCK;
        bulk_fill(seed, offset, block, length);
        bulk_check(&state, (unsigned char *)block, length);
        if ((error = bulk_send_all(fd, block, length))) return error;
        offset += length;
    }
    *mine = bulk_end(&state);
    if ((error = bulk_send_all(fd, mine, sizeof *mine))) return error;
    return bulk_receive_all(fd, theirs, sizeof *theirs);
}

/* Receives the pattern and the sender's sum, and answers with its own. `wrong_at`: offset of the first wrong word, or UINT64_MAX. */
static inline int bulk_receive(int fd, uint64_t seed, uint64_t bytes, struct bulk_sum *mine, struct bulk_sum *theirs, uint64_t *wrong_at) {
    unsigned char block[BULK_BLOCK];
    struct bulk_state state = bulk_begin(seed);
    int error = 0;
    while (state.sum.bytes < bytes) {
        uint64_t left = bytes - state.sum.bytes;
        ssize_t n = recv(fd, block, left < BULK_BLOCK ? (size_t)left : BULK_BLOCK, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            error = n ? errno : ENODATA;
            break;
        }
        bulk_check(&state, block, (size_t)n);
    }
    *mine = bulk_end(&state);
    *wrong_at = state.wrong_at;
    if (error) return error;
    if ((error = bulk_receive_all(fd, theirs, sizeof *theirs))) return error;
    return bulk_send_all(fd, mine, sizeof *mine);
}

static inline int bulk_equal(const struct bulk_sum *a, const struct bulk_sum *b) {
    return a->bytes == b->bytes && a->checksum == b->checksum;
}

#endif
