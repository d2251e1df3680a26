/*
 * guestServer: the host's end of the guest's test clients crr and bulk (bench/guest).
 *
 *     guestServer [CRR_PORT BULK_PORT]            0, the default, takes any free port
 *
 * Listens on 127.0.0.1 and prints {"crrPort":…,"bulkPort":…} once it does. Ends when its standard input ends, so it can't
 * outlive who started it, and prints then what serving cost:
 *     {"accepted":…,"answered":…,"broken":…,"serviceUs":{"p50":…,"p99":…,"max":…},"bulkStreams":…,"bulkWrong":…}
 * `serviceUs` is for how long one CRR occupies this server's loop, and so what the loop adds to it: from before accept4(2)
 * (or, if the request came later, from before its recv(2)) until the answer has been sent. Nearest-rank quantiles over
 * the last SERVICE_SAMPLES answers.
 *
 * CRR port: one byte is answered with the same byte; then the server closes at once for 's', and once the client has
 * closed for any other (why: crr.c). One thread, no allocation per connection. Bulk port: bulk.h, one thread per connection.
 */
#define _GNU_SOURCE
#include "../guest/bulk.h"
#include "server.h"

static const char PROGRAM[] = "guestServer";

enum { BATCH = 64, SERVICE_SAMPLES = 65536, SERVER_CLOSES = 's' };

static uint64_t accepted, answered, broken, service_ns[SERVICE_SAMPLES];
static atomic_uint_fast64_t bulk_streams, bulk_wrong;
static int epoll_fd, crr_listener, bulk_listener;

/* Answers bytes and closes where it is time to; 0 if the connection stays open and has to be watched. */
static int serve(int fd, uint64_t begin_ns) {
    char byte = 0;
    ssize_t got = recv(fd, &byte, 1, 0);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got == 1) {
        if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1) got = -1;
        else service_ns[answered++ % SERVICE_SAMPLES] = now_ns() - begin_ns;
    }
    if (got == 1 && byte != SERVER_CLOSES) return 0;
    broken += got < 0;
    close(fd);
    return 1;
}

static void accept_all(void) {
    uint64_t begin_ns = now_ns();
    for (int fd; (fd = accept4(crr_listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0; begin_ns = now_ns()) {
        accepted++;
        if (!serve(fd, begin_ns)) watch(PROGRAM, epoll_fd, fd, EPOLLIN, (uint64_t)fd);
    }
    if (errno != EAGAIN && errno != ECONNABORTED) fail(PROGRAM, "accept", strerror(errno));
}

static void *serve_bulk(void *argument) {
    int fd = (int)(intptr_t)argument, error = EPROTO;
    struct bulk_request request;
    struct bulk_sum mine = {0}, theirs = {0};
    uint64_t wrong_at = UINT64_MAX;
    if (!bulk_receive_all(fd, &request, sizeof request) && request.magic == BULK_MAGIC)
        error = request.direction == BULK_CLIENT_SENDS ? bulk_receive(fd, request.seed, &mine, &theirs, &wrong_at)
                                                       : bulk_send(fd, &request, &mine, &theirs);
    if (error || wrong_at != UINT64_MAX || !bulk_equal(&mine, &theirs)) atomic_fetch_add(&bulk_wrong, 1);
    atomic_fetch_add(&bulk_streams, 1);
    close(fd);
    return NULL;
}

static void *accept_bulk(void *unused) {
    int fd;
    (void)unused;
    while ((fd = accept4(bulk_listener, NULL, NULL, SOCK_CLOEXEC)) >= 0 || errno == ECONNABORTED) {
        if (fd >= 0) start_thread(PROGRAM, serve_bulk, (void *)(intptr_t)fd);
    }
    fail(PROGRAM, "accept", strerror(errno));
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void print_summary(void) {
    uint64_t n = answered < SERVICE_SAMPLES ? answered : SERVICE_SAMPLES;
    qsort(service_ns, n, sizeof *service_ns, ascending);
    double p50 = n ? (double)service_ns[(n + 1) / 2 - 1] / 1e3 : 0, p99 = n ? (double)service_ns[(n * 99 + 99) / 100 - 1] / 1e3 : 0,
           max = n ? (double)service_ns[n - 1] / 1e3 : 0;
    printf("{\"accepted\":%llu,\"answered\":%llu,\"broken\":%llu,\"serviceUs\":{\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f},"
           "\"bulkStreams\":%llu,\"bulkWrong\":%llu}\n",
           (unsigned long long)accepted, (unsigned long long)answered, (unsigned long long)broken, p50, p99, max,
           (unsigned long long)bulk_streams, (unsigned long long)bulk_wrong);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 1 && argc != 3) fail(PROGRAM, "usage", "guestServer [CRR_PORT BULK_PORT]");
    uint16_t crr_port = argc > 1 ? (uint16_t)number(PROGRAM, "CRR port", argv[1], 0, 65535) : 0;
    uint16_t bulk_port = argc > 2 ? (uint16_t)number(PROGRAM, "bulk port", argv[2], 0, 65535) : 0;
    crr_listener = listen_on(PROGRAM, &crr_port, BACKLOG, SOCK_NONBLOCK, 0);
    bulk_listener = listen_on(PROGRAM, &bulk_port, BACKLOG, 0, 0);
    epoll_fd = create_epoll(PROGRAM);
    watch(PROGRAM, epoll_fd, crr_listener, EPOLLIN, (uint64_t)crr_listener);
    watch(PROGRAM, epoll_fd, STDIN_FILENO, EPOLLIN, STDIN_FILENO);
    start_thread(PROGRAM, accept_bulk, NULL);
    printf("{\"crrPort\":%u,\"bulkPort\":%u}\n", crr_port, bulk_port);
    fflush(stdout);

    struct epoll_event events[BATCH];
    char input[64];
    for (;;) {
        int n = epoll_wait(epoll_fd, events, BATCH, -1);
        for (int i = 0; i < n; i++) {
            int fd = (int)events[i].data.u64;
            if (fd == crr_listener) accept_all();
            else if (fd != STDIN_FILENO) serve(fd, now_ns());
            else if (read(fd, input, sizeof input) <= 0) return print_summary(), 0;
        }
    }
}
