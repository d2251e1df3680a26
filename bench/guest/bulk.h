/*
 * The wire format of a bulk stream, for the client in the guest (bulk.c) and its server on the host.
 *
 * The client opens the connection and sends a `struct bulk_request`. Whoever sends the data sends `bytes` bytes of
 * bulk_fill()'s pattern for `seed`, or what it can within `milliseconds`, whichever is less: in chunks, each behind its
 * length in 8 bytes, and behind a length of 0 a `struct bulk_sum` over what it sent. It keeps the connection open; the other
 * end answers with its own `struct bulk_sum` over what it received. Both ends compare, and the server closes. Little-endian.
 *
 * The pattern differs at each 8-byte position, and the sum depends on the order, so lost, repeated, swapped and foreign
 * bytes all show; bulk_check() names the first wrong position too.
 */
#ifndef SLIPWAY_BENCH_BULK_H
#define SLIPWAY_BENCH_BULK_H

#include "client.h"

#include <stddef.h>

enum { BULK_BLOCK = 64 * 1024, BULK_CHUNK = 4 * BULK_BLOCK };
static const uint32_t BULK_MAGIC = 0x32425753; /* "SWB2" */

enum bulk_direction { BULK_CLIENT_SENDS = 1, BULK_CLIENT_RECEIVES = 2 };

struct bulk_request {
    uint32_t magic, direction;
    uint64_t bytes, seed, milliseconds;
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
static inline int bulk_send_all(int fd, const void *data, size_t length, int flags) {
    for (size_t sent = 0; sent < length;) {
        ssize_t n = send(fd, (const char *)data + sent, length - sent, MSG_NOSIGNAL | flags);
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

/* Sends the next `length` bytes of the pattern as one chunk, in blocks, and takes them into the sum. 0 or an errno. */
static inline int bulk_send_chunk(int fd, struct bulk_state *state, uint64_t length) {
    uint64_t words[BULK_BLOCK / 8];
    int error = bulk_send_all(fd, &length, sizeof length, MSG_MORE);
    while (!error && length) {
        size_t size = length < BULK_BLOCK ? (size_t)length : BULK_BLOCK;
        bulk_fill(state->seed, state->sum.bytes, words, size);
        bulk_check(state, (unsigned char *)words, size);
        error = bulk_send_all(fd, words, size, 0);
        length -= size;
    }
    return error;
}

/* Sends the pattern as far as the request wants it, and its sum, and reads the other end's sum. 0 or an errno. */
static inline int bulk_send(int fd, const struct bulk_request *request, struct bulk_sum *mine, struct bulk_sum *theirs) {
    struct bulk_state state = bulk_begin(request->seed);
    const uint64_t begin_ns = now_ns(), end = 0;
    int error = 0;
    while (!error && state.sum.bytes < request->bytes && now_ns() - begin_ns < request->milliseconds * 1000000) {
        uint64_t left = request->bytes - state.sum.bytes;
        error = bulk_send_chunk(fd, &state, left < BULK_CHUNK ? left : BULK_CHUNK);
    }
    *mine = bulk_end(&state);
    if (!error) error = bulk_send_all(fd, &end, sizeof end, MSG_MORE);
    if (!error) error = bulk_send_all(fd, mine, sizeof *mine, 0);
    return error ? error : bulk_receive_all(fd, theirs, sizeof *theirs);
}

/* Receives a chunk of `length` bytes as they come. 0, an errno, or ENODATA if the stream ended before. */
static inline int bulk_receive_chunk(int fd, struct bulk_state *state, uint64_t length) {
    unsigned char block[BULK_BLOCK];
    while (length) {
        ssize_t n = recv(fd, block, length < BULK_BLOCK ? (size_t)length : BULK_BLOCK, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n ? errno : ENODATA;
        bulk_check(state, block, (size_t)n);
        length -= (size_t)n;
    }
    return 0;
}

/* Receives the pattern and the sender's sum, and answers with its own. `wrong_at`: offset of the first wrong word, or UINT64_MAX. */
static inline int bulk_receive(int fd, uint64_t seed, struct bulk_sum *mine, struct bulk_sum *theirs, uint64_t *wrong_at) {
    struct bulk_state state = bulk_begin(seed);
    uint64_t length;
    int error;
    do {
        error = bulk_receive_all(fd, &length, sizeof length);
        if (!error) error = bulk_receive_chunk(fd, &state, length);
    } while (!error && length);
    *mine = bulk_end(&state);
    *wrong_at = state.wrong_at;
    if (!error) error = bulk_receive_all(fd, theirs, sizeof *theirs);
    return error ? error : bulk_send_all(fd, mine, sizeof *mine, 0);
}

static inline int bulk_equal(const struct bulk_sum *a, const struct bulk_sum *b) {
    return a->bytes == b->bytes && a->checksum == b->checksum;
}

#endif
