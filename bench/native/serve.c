/*
 * serve: the host's end of the load driver's flows (bench/load).
 *
 *     serve [PORT_BASE [THREADS [CONGESTION]]]    default 18000, 1, and the host's congestion control
 *
 * Listens on 127.0.0.1 and prints {"portBase":…,"pid":…} once it does. Ends when its standard input ends, so it can't
 * outlive who started it. Each thread has its own listening sockets (SO_REUSEPORT) and its own epoll loop.
 *
 *     PORT_BASE + 0 … 7   echo: sends back what comes, closes after the client
 *     PORT_BASE + 10      sink: drops what comes
 *     PORT_BASE + 11      source: sends the pattern without end
 *     PORT_BASE + 12      check: compares what comes with the pattern; at the client's FIN it sends two 64-bit
 *                         little-endian numbers, bytes received and wrong chunks, and closes
 *     PORT_BASE + 13      silent: its backlog is full and nobody accepts, so SYNs get no answer
 *     PORT_BASE + 14      counts: sends a line of JSON, what the UDP sink got so far: datagrams, bytes, and how many were
 *                         wrong; and how many datagrams the UDP source sent; then closes
 *
 * and, with UDP, PORT_BASE + 0 echo, PORT_BASE + 10 sink, and PORT_BASE + 11 source (datagrams.h).
 */
#define _GNU_SOURCE
#include "datagrams.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>

static const char PROGRAM[] = "serve";

enum { ECHO_PORTS = 8, SINK_PORT = 10, SOURCE_PORT, CHECK_PORT, SILENT_PORT, COUNTS_PORT, PORTS };
enum { BATCH = 256, CHUNK = 65536, ROUNDS = 4, MAX_FDS = 1 << 20 };
/* The pattern of bench/driver/pattern.ts. The source's file holds it this many times over. */
enum { PATTERN_LENGTH = 262139, PATTERN_REPEATS = 16 };

enum kind { LISTENER, ECHO, SINK, SOURCE, CHECK, COUNTS, UDP_ECHO, UDP_SINK, UDP_SOURCE };

/* What the one thread that has the descriptor knows of it. */
struct stream {
    uint64_t position, wrong;
};

static uint16_t port_base;
static unsigned threads;
static const char *congestion;
static struct stream *streams;
static uint8_t pattern[2 * PATTERN_LENGTH];
static int source_fd;
static atomic_uint listening;

static void fill_pattern(void) {
    uint32_t state = 0x2545f491;
    for (size_t n = 0; n < PATTERN_LENGTH; n++) {
        state ^= state << 13, state ^= state >> 17, state ^= state << 5;
        pattern[n] = pattern[n + PATTERN_LENGTH] = (uint8_t)(state >> 24);
    }
    source_fd = memfd_create("source", MFD_CLOEXEC);
    for (int n = 0; n < PATTERN_REPEATS; n++)
        if (write(source_fd, pattern, PATTERN_LENGTH) != PATTERN_LENGTH) fail(PROGRAM, "memfd", strerror(errno));
}

/* A listener with a backlog of 0 holds one connection; after that Linux drops every SYN (tcp_conn_request). */
static void listen_silently(void) {
    uint16_t port = port_base + SILENT_PORT;
    struct sockaddr_in address = loopback(port);
    listen_on(PROGRAM, &port, 0, SOCK_NONBLOCK, 0);
    for (int n = 0; n < 3; n++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
            fail(PROGRAM, "fill the silent port", strerror(errno));
    }
}

static uint64_t token(int fd, enum kind kind, enum kind accepts) {
    return (uint64_t)kind << 48 | (uint64_t)accepts << 32 | (uint32_t)fd;
}

/* Each of these serves one stream as far as it goes now; 0 when the stream is over. */

static int echo(int fd, uint8_t *buffer) {
    ssize_t got = recv(fd, buffer, CHUNK, 0);
    if (got < 0) return errno == EAGAIN;
    /* A client that sends more than it reads is not served. */
    return got > 0 && send(fd, buffer, (size_t)got, MSG_NOSIGNAL) == got;
}

static int drop(int fd) {
    for (int n = 0; n < ROUNDS; n++) {
        ssize_t got = recv(fd, NULL, 4 << 20, MSG_TRUNC);
        if (got <= 0) return got < 0 && errno == EAGAIN;
    }
    return 1;
}

static int send_pattern(int fd, uint32_t events) {
    const uint64_t length = (uint64_t)PATTERN_LENGTH * PATTERN_REPEATS;
    struct stream *stream = &streams[fd];
    if (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) return 0;
    for (int n = 0; n < ROUNDS; n++) {
        off_t at = (off_t)(stream->position % length);
        ssize_t sent = sendfile(fd, source_fd, &at, length - (uint64_t)at);
        if (sent <= 0) return sent < 0 && errno == EAGAIN;
        stream->position += (uint64_t)sent;
    }
    return 1;
}

static int check(int fd, uint8_t *buffer) {
    struct stream *stream = &streams[fd];
    for (int n = 0; n < ROUNDS; n++) {
        ssize_t got = recv(fd, buffer, CHUNK, 0);
        if (got < 0) return errno == EAGAIN;
        if (got == 0) {
            uint64_t answer[2] = {stream->position, stream->wrong};
            (void)!send(fd, answer, sizeof answer, MSG_NOSIGNAL);
            return 0;
        }
        stream->wrong += memcmp(buffer, pattern + stream->position % PATTERN_LENGTH, (size_t)got) != 0;
        stream->position += (uint64_t)got;
    }
    return 1;
}

static void accept_all(int epoll, int listener, enum kind kind, uint8_t *buffer) {
    for (int n = 0; n < BATCH; n++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && errno == ECONNABORTED) continue;
        if (fd < 0 || fd >= MAX_FDS) {
            if (fd >= 0) close(fd);
            return;
        }
        streams[fd] = (struct stream){0};
        if (kind == COUNTS) send_counts(fd);
        if (kind == COUNTS || (kind == ECHO && !echo(fd, buffer))) close(fd);
        else watch(PROGRAM, epoll, fd, kind == SOURCE ? EPOLLOUT | EPOLLRDHUP : EPOLLIN, token(fd, kind, kind));
    }
}

static void listen_for(int epoll, unsigned offset, enum kind kind) {
    uint16_t port = (uint16_t)(port_base + offset);
    int fd = listen_on(PROGRAM, &port, BACKLOG, SOCK_NONBLOCK, threads > 1);
    /* Connections inherit it. */
    if (congestion && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, (socklen_t)strlen(congestion)))
        fail(PROGRAM, congestion, strerror(errno));
    watch(PROGRAM, epoll, fd, EPOLLIN, token(fd, LISTENER, kind));
}

static int receive_for(int epoll, unsigned offset, enum kind kind) {
    int fd = receive_on(PROGRAM, (uint16_t)(port_base + offset), threads > 1);
    watch(PROGRAM, epoll, fd, EPOLLIN, token(fd, kind, kind));
    return fd;
}

static void *serve(void *unused) {
    struct epoll_event events[BATCH];
    struct datagrams *datagrams = create_datagrams(PROGRAM);
    uint8_t *buffer = malloc(CHUNK);
    int epoll = create_epoll(PROGRAM);
    (void)unused;
    if (!buffer) fail(PROGRAM, "memory", strerror(errno));
    for (unsigned n = 0; n < ECHO_PORTS; n++) listen_for(epoll, n, ECHO);
    listen_for(epoll, SINK_PORT, SINK);
    listen_for(epoll, SOURCE_PORT, SOURCE);
    listen_for(epoll, CHECK_PORT, CHECK);
    listen_for(epoll, COUNTS_PORT, COUNTS);
    receive_for(epoll, 0, UDP_ECHO);
    receive_for(epoll, SINK_PORT, UDP_SINK);
    int source = receive_for(epoll, SOURCE_PORT, UDP_SOURCE), sending = 0;
    atomic_fetch_add(&listening, 1);
    for (;;) {
        int count = epoll_wait(epoll, events, BATCH, sending ? 0 : -1);
        for (int n = 0; n < count; n++) {
            int fd = (int)(uint32_t)events[n].data.u64, open = 1;
            switch ((enum kind)(events[n].data.u64 >> 48)) {
            case LISTENER: accept_all(epoll, fd, (enum kind)(events[n].data.u64 >> 32 & 0xffff), buffer); break;
            case ECHO: open = echo(fd, buffer); break;
            case SINK: open = drop(fd); break;
            case SOURCE: open = send_pattern(fd, events[n].events); break;
            case CHECK: open = check(fd, buffer); break;
            case COUNTS: break;
            case UDP_ECHO: echo_datagrams(fd, datagrams); break;
            case UDP_SOURCE: take_requests(fd, datagrams); break;
            case UDP_SINK: sink_datagrams(fd, datagrams, pattern, PATTERN_LENGTH); break;
            }
            if (!open) close(fd);
        }
        sending = source_datagrams(source, datagrams, pattern, PATTERN_LENGTH);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc > 4) fail(PROGRAM, "usage", "serve [PORT_BASE [THREADS [CONGESTION]]]");
    port_base = argc > 1 ? (uint16_t)number(PROGRAM, "port base", argv[1], 1, 65535 - PORTS) : 18000;
    threads = argc > 2 ? (unsigned)number(PROGRAM, "threads", argv[2], 1, 64) : 1;
    congestion = argc > 3 ? argv[3] : NULL;
    struct rlimit limit;
    /* sendfile(2) has no MSG_NOSIGNAL: a client's RST must not end us. */
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    streams = calloc(MAX_FDS, sizeof *streams);
    if (!streams) fail(PROGRAM, "memory", strerror(errno));
    fill_pattern();
    listen_silently();
    for (unsigned n = 0; n < threads; n++) start_thread(PROGRAM, serve, NULL);
    while (atomic_load(&listening) < threads) usleep(1000);
    printf("{\"portBase\":%u,\"pid\":%d}\n", port_base, getpid());
    fflush(stdout);
    for (char input[64]; read(STDIN_FILENO, input, sizeof input) > 0;) {
    }
    return 0;
}
