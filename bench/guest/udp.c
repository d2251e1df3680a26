/*
 * UDP from within a guest: datagrams of several sizes come back as they were sent, many at once too; nobody at a port and a
 * forbidden address are told at once. Prints "ok", or what went wrong.
 */
#define _GNU_SOURCE
#include "client.h"

enum { LONGEST = 1472, BURST = 24, TRIES = 5, RECEIVE_TIMEOUT_S = 4 };

static const char *const NAME = "udp";

/* A socket connected to this address and port. */
static int connected(const char *address, uint16_t port) {
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, address, &peer.sin_addr) != 1) fail(NAME, address, "is no IPv4 address");
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct timeval timeout = {.tv_sec = RECEIVE_TIMEOUT_S};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) ||
        connect(fd, (struct sockaddr *)&peer, sizeof peer))
        fail(NAME, "socket", strerror(errno));
    return fd;
}

/* The longest payload that goes in one packet. */
static int longest(int fd) {
    int mtu = 0;
    socklen_t length = sizeof mtu;
    if (getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &length)) fail(NAME, "IP_MTU", strerror(errno));
    return mtu - 28 < LONGEST ? mtu - 28 : LONGEST;
}

static void fill(uint8_t *bytes, int length, int seed) {
    for (int i = 0; i < length; i++) bytes[i] = (uint8_t)(i * 7 + seed);
}

/* Sends a datagram of this length until it comes back: emulated machines may lose one. */
static void echo(int fd, int length) {
    uint8_t sent[LONGEST], got[LONGEST + 1];
    fill(sent, length, length);
    for (int tries = 0; tries < TRIES; tries++) {
        if (send(fd, sent, (size_t)length, 0) != length) fail(NAME, "send", strerror(errno));
        ssize_t bytes = recv(fd, got, sizeof got, 0);
        if (bytes < 0 && errno == EAGAIN) continue;
        if (bytes != length || memcmp(sent, got, (size_t)length)) fail(NAME, "recv", "another datagram came back");
        return;
    }
    fail(NAME, "recv", "nothing came back");
}

/* Sends many at once, and receives as many. */
static void burst(int fd) {
    uint8_t sent[BURST][LONGEST], got[LONGEST + 1];
    struct iovec parts[BURST];
    struct mmsghdr messages[BURST] = {0};
    for (int n = 0; n < BURST; n++) {
        fill(sent[n], LONGEST, n);
        parts[n] = (struct iovec){sent[n], (size_t)(longest(fd) - n % 3)};
        messages[n].msg_hdr = (struct msghdr){.msg_iov = &parts[n], .msg_iovlen = 1};
    }
    if (sendmmsg(fd, messages, BURST, 0) != BURST) fail(NAME, "sendmmsg", strerror(errno));
    for (int n = 0; n < BURST; n++) {
        ssize_t bytes = recv(fd, got, sizeof got, 0);
        if (bytes != (ssize_t)parts[n].iov_len || memcmp(sent[n], got, (size_t)bytes))
            fail(NAME, "burst", bytes < 0 ? strerror(errno) : "another datagram came back");
    }
}

/* Nobody is there, which ICMP tells. */
static void refused(const char *address, uint16_t port, int expected) {
    int fd = connected(address, port);
    char byte = 0;
    if (send(fd, &byte, 1, 0) != 1) fail(NAME, "send", strerror(errno));
    if (recv(fd, &byte, 1, 0) >= 0) fail(NAME, address, "somebody answers");
    if (errno != expected) fail(NAME, address, strerror(errno));
    close(fd);
}

int main(int argc, char **argv) {
    if (argc != 4) fail(NAME, "usage", "udp ADDRESS PORT PORT-OF-NOBODY");
    uint16_t port = (uint16_t)number(NAME, "PORT", argv[2], 1, 65535);
    uint16_t closed = (uint16_t)number(NAME, "PORT-OF-NOBODY", argv[3], 1, 65535);
    int fd = connected(argv[1], port);
    int lengths[] = {0, 1, 17, longest(fd)};
    for (unsigned n = 0; n < sizeof lengths / sizeof *lengths; n++) echo(fd, lengths[n]);
    burst(fd);
    refused(argv[1], closed, ECONNREFUSED);
    refused("169.254.169.254", 80, EHOSTUNREACH);
    puts("ok");
    return 0;
}
