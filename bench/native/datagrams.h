/*
 * The UDP services of serve.c: an echo, a sink that counts what comes, and a source. A datagram begins with its number, four bytes
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

/* The source sends for so long after each request. */
enum { SOURCE_MS = 50 };

/* What came to the sinks of all threads, and what their sources sent. */
static struct {
    atomic_ullong datagrams, bytes, wrong, sent;
} sunk;

/* One who has asked the source: by its port, as all are on the loopback. */
struct receiver {
    struct sockaddr_in address;
    uint64_t until;
    uint32_t length, number;
    int listed;
};

/* One thread's buffers, and who is sent datagrams: the first `listed_count` of `listed` are ports. */
struct datagrams {
    struct receiver receivers[65536];
    uint16_t listed[65536];
    int listed_count;
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

/* Takes requests: whoever sends one gets datagrams of its length for a while, or none any more if it is empty. */
static inline void take_requests(int fd, struct datagrams *own) {
    int count = take_datagrams(fd, own);
    uint64_t until = now_ns() + SOURCE_MS * 1000000ull;
    for (int n = 0; n < count; n++) {
        uint16_t port = ntohs(own->senders[n].sin_port);
        struct receiver *receiver = &own->receivers[port];
        receiver->address = own->senders[n];
        receiver->length = own->messages[n].msg_len;
        receiver->until = receiver->length ? until : 0;
        if (!receiver->listed) own->listed[own->listed_count++] = port;
        receiver->listed = 1;
    }
}

static inline void send_batch(int fd, struct receiver *receiver, const uint8_t *pattern, uint32_t pattern_length) {
    struct mmsghdr messages[DATAGRAM_BATCH] = {0};
    struct iovec pieces[DATAGRAM_BATCH][2];
    uint32_t numbers[DATAGRAM_BATCH], numbered = receiver->length < DATAGRAM_NUMBER ? receiver->length : DATAGRAM_NUMBER;
    for (unsigned n = 0; n < DATAGRAM_BATCH; n++) {
        numbers[n] = receiver->number + n;
        pieces[n][0] = (struct iovec){.iov_base = &numbers[n], .iov_len = numbered};
        pieces[n][1] = (struct iovec){.iov_base = (void *)(pattern + numbers[n] % pattern_length), .iov_len = receiver->length - numbered};
        messages[n].msg_hdr.msg_name = &receiver->address;
        messages[n].msg_hdr.msg_namelen = sizeof receiver->address;
        messages[n].msg_hdr.msg_iov = pieces[n];
        messages[n].msg_hdr.msg_iovlen = 2;
    }
    int sent = sendmmsg(fd, messages, DATAGRAM_BATCH, 0);
    if (sent <= 0) return;
    receiver->number += (unsigned)sent;
    sunk.sent += (unsigned)sent;
}

/* Sends a batch to each receiver. Returns whether there is one. */
static inline int source_datagrams(int fd, struct datagrams *own, const uint8_t *pattern, uint32_t pattern_length) {
    uint64_t now = own->listed_count ? now_ns() : 0;
    for (int n = 0; n < own->listed_count;) {
        struct receiver *receiver = &own->receivers[own->listed[n]];
        if (receiver->until > now) {
            send_batch(fd, receiver, pattern, pattern_length);
            n++;
        } else {
            receiver->listed = 0;
            own->listed[n] = own->listed[--own->listed_count];
        }
    }
    return own->listed_count > 0;
}

/* Says what the sinks got and the sources sent, as JSON. */
static inline void send_counts(int fd) {
    char text[160];
    int length = snprintf(text, sizeof text, "{\"datagrams\":%llu,\"bytes\":%llu,\"wrong\":%llu,\"sent\":%llu}\n", sunk.datagrams,
                          sunk.bytes, sunk.wrong, sunk.sent);
    (void)!send(fd, text, (size_t)length, MSG_NOSIGNAL);
}

#endif
