/*
 * direct: the load driver's loads over plain sockets on the loopback (bench/compare): what the kernel itself can do.
 *
 *     direct PORT_BASE crr|rr|udp-rr|bulk-tx|bulk-rx FLOWS WARMUP_MS MS
 *
 * One thread with one epoll loop keeps FLOWS connections to the servers of serve.c busy, and prints what happened in the MS
 * milliseconds after the warm-up as one line of JSON. Histograms are lists of [bucket, count]; the buckets are those of
 * bench/driver/histogram.ts. CPU is in seconds, of this process. A datagram whose echo does not come is sent anew, as the
 * load driver does (bench/load/load.ts).
 */
#define _GNU_SOURCE
#include "../guest/client.h"

#include <sys/epoll.h>
#include <sys/resource.h>

static const char PROGRAM[] = "direct";

enum { ECHO_PORTS = 8, SINK_PORT = 10, SOURCE_PORT = 11 };
enum { BATCH = 64, CHUNK = 131072, ROUNDS = 4, MAX_FLOWS = 4096 };
/* Of bench/driver/histogram.ts. */
enum { EXACT = 256, STEP_BITS = 7, STEPS = 1 << STEP_BITS, BUCKETS = EXACT + 23 * STEPS };

/* Datagrams are looked after this often. */
enum { ECHO_TIMEOUT_MS = 200, LOOK_MS = 10 };

enum mode { CRR, RR, UDP_RR, BULK_TX, BULK_RX, MODES };
static const char *const MODE_NAMES[MODES] = {"crr", "rr", "udp-rr", "bulk-tx", "bulk-rx"};

struct flow {
    int fd;
    enum { CONNECTING, WAITING, CLOSING } state;
    uint64_t opened, asked, bytes;
    /* The datagram's that was sent last: its payload. */
    uint8_t number;
};

static struct {
    uint64_t operations, refused, resets, lost, sent, received;
    uint64_t response[BUCKETS], total[BUCKETS];
} counts;

static struct flow flows[MAX_FLOWS];
static enum mode mode;
static int epoll, port_base, flow_count;
static uint8_t buffer[CHUNK];

static void record(uint64_t *histogram, uint64_t since) {
    uint64_t us = (now_ns() - since) / 1000;
    uint32_t value = us < INT32_MAX ? (uint32_t)us : INT32_MAX, exponent;
    if (value < EXACT) {
        histogram[value]++;
        return;
    }
    exponent = 31 - (uint32_t)__builtin_clz(value);
    histogram[EXACT + (exponent - 8) * STEPS + (value >> (exponent - STEP_BITS)) - STEPS]++;
}

static void open_flow(struct flow *flow) {
    static unsigned turn;
    static const int ports[MODES] = {[BULK_TX] = SINK_PORT, [BULK_RX] = SOURCE_PORT};
    int port = port_base + (ports[mode] ? ports[mode] : mode == UDP_RR ? 0 : (int)(turn++ % ECHO_PORTS)), one = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    /* Bulk is asked for again while there is more to do; single bytes are all taken at once. */
    uint32_t edge = mode == CRR || mode == RR || mode == UDP_RR ? EPOLLET : 0;
    struct epoll_event event = {.events = (mode == BULK_RX ? EPOLLIN : EPOLLIN | EPOLLOUT) | edge, .data.ptr = flow};
    flow->opened = now_ns();
    flow->state = CONNECTING;
    flow->fd = socket(AF_INET, (mode == UDP_RR ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (flow->fd < 0) fail(PROGRAM, "socket", strerror(errno));
    if (mode != UDP_RR) setsockopt(flow->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(flow->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        fail(PROGRAM, "connect", strerror(errno));
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, flow->fd, &event)) fail(PROGRAM, "epoll_ctl", strerror(errno));
}

static void reopen(struct flow *flow, uint64_t *counter) {
    ++*counter;
    close(flow->fd);
    open_flow(flow);
}

static void ask(struct flow *flow) {
    flow->state = WAITING;
    flow->asked = now_ns();
    if (send(flow->fd, "?", 1, MSG_NOSIGNAL) == 1) counts.sent++;
}

/* One byte came back, or the end. */
static void answered(struct flow *flow) {
    ssize_t got = recv(flow->fd, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got < 0) {
        reopen(flow, &counts.resets);
        return;
    }
    if (got == 0) {
        if (flow->state == CLOSING) record(counts.total, flow->opened);
        reopen(flow, flow->state == CLOSING ? &counts.operations : &counts.resets);
        return;
    }
    counts.received += (uint64_t)got;
    record(counts.response, flow->asked);
    if (mode == RR) {
        counts.operations++;
        ask(flow);
        return;
    }
    flow->state = CLOSING;
    shutdown(flow->fd, SHUT_WR);
}

static void ask_by_datagram(struct flow *flow) {
    flow->state = WAITING;
    flow->asked = now_ns();
    flow->number++;
    if (send(flow->fd, &flow->number, 1, 0) == 1) counts.sent++;
}

/* An echo that comes too late bears another number. */
static void answered_by_datagram(struct flow *flow) {
    uint8_t number;
    while (recv(flow->fd, &number, 1, 0) == 1) {
        if (number != flow->number) continue;
        counts.received++;
        counts.operations++;
        record(counts.response, flow->asked);
        /* The next echo is an event of its own: the other flows come first. */
        ask_by_datagram(flow);
        return;
    }
}

static void ask_anew(void) {
    uint64_t now = now_ns();
    for (int n = 0; n < flow_count; n++) {
        if (flows[n].state == CONNECTING || now - flows[n].asked < ECHO_TIMEOUT_MS * 1000000ull) continue;
        counts.lost++;
        ask_by_datagram(&flows[n]);
    }
}

static void move_bulk(struct flow *flow) {
    for (int n = 0; n < ROUNDS; n++) {
        ssize_t moved = mode == BULK_TX ? send(flow->fd, buffer, CHUNK, MSG_NOSIGNAL) : recv(flow->fd, buffer, CHUNK, 0);
        if (moved < 0 && errno == EAGAIN) return;
        if (moved <= 0) {
            reopen(flow, &counts.resets);
            return;
        }
        flow->bytes += (uint64_t)moved;
        *(mode == BULK_TX ? &counts.sent : &counts.received) += (uint64_t)moved;
    }
}

static void serve(struct flow *flow, uint32_t events) {
    if (flow->state == CONNECTING && (events & EPOLLERR)) {
        reopen(flow, &counts.refused);
    } else if (mode == BULK_TX || mode == BULK_RX) {
        flow->state = WAITING;
        move_bulk(flow);
    } else if (mode == UDP_RR) {
        if (flow->state == CONNECTING) ask_by_datagram(flow);
        else answered_by_datagram(flow);
    } else if (flow->state == CONNECTING) {
        if (events & EPOLLOUT) ask(flow);
    } else if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
        answered(flow);
    }
}

static void run_for(uint64_t ms) {
    struct epoll_event events[BATCH];
    uint64_t look = 0;
    for (uint64_t end = now_ns() + ms * 1000000; now_ns() < end;) {
        int count = epoll_wait(epoll, events, BATCH, 10);
        for (int n = 0; n < count; n++) serve(events[n].data.ptr, events[n].events);
        if (mode == UDP_RR && now_ns() >= look) {
            ask_anew();
            look = now_ns() + LOOK_MS * 1000000ull;
        }
    }
}

static double seconds(struct timeval time) {
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static void print_histogram(const char *name, const uint64_t *histogram) {
    const char *separator = "";
    printf("\"%s\":[", name);
    for (int n = 0; n < BUCKETS; n++) {
        if (histogram[n] == 0) continue;
        printf("%s[%d,%llu]", separator, n, (unsigned long long)histogram[n]);
        separator = ",";
    }
    printf("],");
}

static void print_result(double elapsed, const struct rusage *before, const struct rusage *after) {
    printf("{\"seconds\":%.6f,\"operations\":%llu,\"refused\":%llu,\"resets\":%llu,\"lost\":%llu,\"bytesSent\":%llu,\"bytesReceived\":%llu,",
           elapsed, (unsigned long long)counts.operations, (unsigned long long)counts.refused, (unsigned long long)counts.resets,
           (unsigned long long)counts.lost, (unsigned long long)counts.sent, (unsigned long long)counts.received);
    printf("\"user\":%.6f,\"system\":%.6f,", seconds(after->ru_utime) - seconds(before->ru_utime),
           seconds(after->ru_stime) - seconds(before->ru_stime));
    print_histogram("response", counts.response);
    print_histogram("total", counts.total);
    printf("\"flowBytes\":[");
    for (int n = 0; n < flow_count; n++) printf("%s%llu", n ? "," : "", (unsigned long long)flows[n].bytes);
    printf("]}\n");
}

int main(int argc, char **argv) {
    struct rusage before, after;
    if (argc != 6) fail(PROGRAM, "usage", "direct PORT_BASE crr|rr|udp-rr|bulk-tx|bulk-rx FLOWS WARMUP_MS MS");
    port_base = (int)number(PROGRAM, "port base", argv[1], 1, 65500);
    while (mode < MODES && strcmp(argv[2], MODE_NAMES[mode])) mode++;
    if (mode == MODES) fail(PROGRAM, argv[2], "no such mode");
    flow_count = (int)number(PROGRAM, "flows", argv[3], 1, MAX_FLOWS);
    uint64_t warmup = number(PROGRAM, "warm-up", argv[4], 0, 600000), ms = number(PROGRAM, "time", argv[5], 1, 3600000);
    if ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0) fail(PROGRAM, "epoll", strerror(errno));
    for (int n = 0; n < flow_count; n++) open_flow(&flows[n]);
    run_for(warmup);
    memset(&counts, 0, sizeof counts);
    for (int n = 0; n < flow_count; n++) flows[n].bytes = 0;
    getrusage(RUSAGE_SELF, &before);
    uint64_t started = now_ns();
    run_for(ms);
    double elapsed = (double)(now_ns() - started) / 1e9;
    getrusage(RUSAGE_SELF, &after);
    print_result(elapsed, &before, &after);
    return 0;
}
