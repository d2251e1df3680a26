/* What the servers share: sockets that listen on the loopback, and epoll. */
#ifndef SLIPWAY_BENCH_SERVER_H
#define SLIPWAY_BENCH_SERVER_H

#include "../guest/client.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>

enum { BACKLOG = 4096 };

static inline struct sockaddr_in loopback(uint16_t port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/*
 * Listens on 127.0.0.1 without SOCK_NONBLOCK unless `flags` has it; port 0 takes any free one, and becomes that.
 * `shared`: other sockets of ours listen on the port too (SO_REUSEPORT). Connections inherit TCP_NODELAY.
 */
static inline int listen_on(const char *program, uint16_t *port, int backlog, int flags, int shared) {
    struct sockaddr_in address = loopback(*port);
    socklen_t length = sizeof address;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0) fail(program, "socket", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &shared, sizeof shared);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, length) || listen(fd, backlog) || getsockname(fd, (struct sockaddr *)&address, &length)) {
        char text[32];
        snprintf(text, sizeof text, "127.0.0.1:%u", *port);
        fail(program, text, strerror(errno));
    }
    *port = ntohs(address.sin_port);
    return fd;
}

static inline int create_epoll(const char *program) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0) fail(program, "epoll", strerror(errno));
    return fd;
}

static inline void watch(const char *program, int epoll, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail(program, "epoll_ctl", strerror(errno));
}

static inline void start_thread(const char *program, void *(*routine)(void *), void *argument) {
    pthread_t thread;
    int error = pthread_create(&thread, NULL, routine, argument);
    if (error) fail(program, "start a thread", strerror(error));
    pthread_detach(thread);
}

#endif
