/*
 * The UDP services of serve.c: an echo, and a sink that counts what comes. A datagram begins with its number, four bytes
 * little-endian or as many as it has, and goes on with the pattern from the number's position on.
 */
#ifndef SLIPWAY_BENCH_DATAGRAMS_H
#define SLIPWAY_BENCH_DATAGRAMS_H

#include "server.h"

enum { DATAGRAM_BATCH = 64, DATAGRAM_NUMBER = 4 };
/* Room for the largest, and an odd number of cache lines: the buffers' beginnings lie in different sets of the cache. */
enum { DATAGRAM_ROOM = 1025 * 64 };
/* What waits for the server, as far as net.core.rmem_max allows (socket(7)). */
enum { DATAGRAM_QUEUE = 4 << 20 };

/* What came to the sinks of all threads. */
static struct {
    atomic_ullong datagrams, bytes, wrong;
} sunk;

/* One thread's buffers. */
struct datagrams {
    struct mmsghdr messages[DATAGRAM_BATCH];
    struct iovec pieces[DATAGRAM_BATCH];
    struct sockaddr_in senders[DATAGRAM_BATCH];
    uint8_t buffers[DATAGRAM_BATCH][DATAGRAM_ROOM];
};

static inline struct datagrams *create_datagrams(const char *program) {
    struct datagrams *own = calloc(1, sizeof *own);
    if (!own) fail(program, "memory", strerror(errno));
    return own;
}

/* A socket that gets the datagrams to 127.0.0.1:`port`; `shared` as that of listen_on. */
static inline int receive_on(const char *program, uint16_t port, int shared) {
    struct sockaddr_in address = loopback(port);
    int queue = DATAGRAM_QUEUE, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) fail(program, "socket", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &shared, sizeof shared);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &queue, sizeof queue);
    if (bind(fd, (struct sockaddr *)&address, sizeof address)) {
        char text[32];
        snprintf(text, sizeof text, "127.0.0.1:%u (UDP)", port);
        fail(program, text, strerror(errno));
    }
    return fd;
}

/* Takes as many datagrams as a batch holds, and returns their number. */
static inline int take_datagrams(int fd, struct datagrams *own) {
    for (int n = 0; n < DATAGRAM_BATCH; n++) {
        own->pieces[n] = (struct iovec){.iov_base = own->buffers[n], .iov_len = DATAGRAM_ROOM};
        own->messages[n].msg_hdr = (struct msghdr){.msg_name = &own->senders[n],
                                                   .msg_namelen = sizeof own->senders[n],
                                                   .msg_iov = &own->pieces[n],
                                                   .msg_iovlen = 1};
    }
    return recvmmsg(fd, own->messages, DATAGRAM_BATCH, 0, NULL);
}

/* Sends back what comes. What finds no room is lost, as datagrams are. */
static inline void echo_datagrams(int fd, struct datagrams *own) {
    int count = take_datagrams(fd, own);
    for (int n = 0; n < count; n++) own->pieces[n].iov_len = own->messages[n].msg_len;
    if (count > 0) sendmmsg(fd, own->messages, (unsigned)count, 0);
}

/* Counts what comes, and what of it is not what a client sends; `pattern` stands there twice, one after the other. */
static inline void sink_datagrams(int fd, struct datagrams *own, const uint8_t *pattern, uint32_t pattern_length) {
    int count = take_datagrams(fd, own);
    uint64_t bytes = 0, wrong = 0;
    for (int n = 0; n < count; n++) {
        const uint8_t *buffer = own->buffers[n];
        uint32_t length = own->messages[n].msg_len, number;
        bytes += length;
        if (length <= DATAGRAM_NUMBER) continue;
        number = buffer[0] | (uint32_t)buffer[1] << 8 | (uint32_t)buffer[2] << 16 | (uint32_t)buffer[3] << 24;
        wrong += memcmp(buffer + DATAGRAM_NUMBER, pattern + number % pattern_length, length - DATAGRAM_NUMBER) != 0;
    }
    if (count <= 0) return;
    sunk.datagrams += (unsigned)count;
    sunk.bytes += bytes;
    sunk.wrong += wrong;
}

/* Says what the sinks got, as JSON. */
static inline void send_counts(int fd) {
    char text[128];
    int length = snprintf(text, sizeof text, "{\"datagrams\":%llu,\"bytes\":%llu,\"wrong\":%llu}\n", sunk.datagrams, sunk.bytes,
                          sunk.wrong);
    (void)!send(fd, text, (size_t)length, MSG_NOSIGNAL);
}

#endif
