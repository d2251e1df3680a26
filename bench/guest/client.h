/*
 * What the guest's test clients share: the clock, the CPUs they may use, and a TCP connection with time limits.
 * Static inline, so that each client stays one file to compile: cc -O2 -static -pthread crr.c
 */
#ifndef SLIPWAY_BENCH_CLIENT_H
#define SLIPWAY_BENCH_CLIENT_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { OPERATION_TIMEOUT_S = 5 };

/* CLOCK_MONOTONIC in nanoseconds. */
static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline _Noreturn void fail(const char *program, const char *what, const char *why) {
    fprintf(stderr, "%s: %s: %s\n", program, what, why);
    exit(2);
}

/* The decimal number in `text`, or the end of the program with a message that names `what`. */
static inline uint64_t number(const char *program, const char *what, const char *text, uint64_t lowest, uint64_t highest) {
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || value < lowest || value > highest) {
        char range[96];
        snprintf(range, sizeof range, "\"%.30s\" is not a number from %llu to %llu", text, (unsigned long long)lowest,
                 (unsigned long long)highest);
        fail(program, what, range);
    }
    return value;
}

/* The CPUs this process may run on, in ascending order. */
struct cpus {
    int count;
    int id[CPU_SETSIZE];
};

static inline struct cpus allowed_cpus(void) {
    struct cpus cpus = {0};
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) return (struct cpus){.count = 1};
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set)) cpus.id[cpus.count++] = i;
    return cpus;
}

/* Pins thread `tid` (0: the caller) to the `turn`-th allowed CPU, modulo their number. 0 or -1 with errno. */
static inline int pin(pid_t tid, const struct cpus *cpus, unsigned turn) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpus->id[turn % (unsigned)cpus->count], &set);
    return sched_setaffinity(tid, sizeof set, &set);
}

static inline struct sockaddr_in parse_address(const char *program, const char *host, const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)number(program, "port", port, 1, 65535))};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) fail(program, host, "not an IPv4 address such as 10.0.2.2");
    return address;
}

/*
 * A socket with TCP_NODELAY whose operations, connect(2) among them, give up after OPERATION_TIMEOUT_S:
 * connect(2) then says EINPROGRESS, recv(2) and send(2) say EAGAIN (socket(7), SO_RCVTIMEO). -1 with errno.
 */
static inline int tcp_socket(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    struct timeval limit = {.tv_sec = OPERATION_TIMEOUT_S};
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

#endif
