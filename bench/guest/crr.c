/*
 * crr: concurrent connect / request / response / close, measured from inside a guest (or on the host, for comparison).
 *
 *     crr HOST PORT FLOWS COUNT [WARMUP [client|server]]
 *
 * FLOWS threads, thread i pinned to the (i mod n)-th of the n CPUs that the process may use, run WARMUP CRRs that are
 * not recorded and then COUNT that are, both numbers shared by all threads. Prints one line of JSON. Exit code 0 once
 * it could be set up, whatever the network did (failed CRRs are counted by errno, and a thread ends early after
 * FAILURES_IN_A_ROW of them); 2 for bad arguments and failed set-up.
 *
 * One CRR, timed by CLOCK_MONOTONIC from before socket(2) to after close(2), is a whole connection with a FIN in each
 * direction, never a RST: connect, send one byte, receive the answer of one byte, and then, as the last argument and so
 * the byte sent tell the server,
 *     client (the default): the client sends its FIN and waits for the server's;
 *     server: the server sends its FIN behind its answer, the client waits for it and closes.
 *
 * Who closes first keeps TIME_WAIT. With `client` that is the guest's kernel, which has one address, one peer and one peer
 * port: its ports (28,232 by default, 64,512 at most) are used up by 60 s of TIME_WAIT each at 470 to 1,075 CRRs/s, and then
 * connect(2) says EADDRNOTAVAIL. tcp_tw_reuse needs TCP timestamps, which user-mode networks don't speak. So for long
 * runs set the guest's net.ipv4.ip_local_port_range to 1024-65535 and a small net.ipv4.tcp_max_tw_buckets: the guest then
 * forgets TIME_WAIT, not the handshake. With `server` no port is kept in the guest, but in the user-mode network (libslirp
 * then walks a list of thousands of dead connections for each packet) and in the server, whose kernel lets a new SYN
 * end a TIME_WAIT (RFC 9293 §3.10.7.4, RFC 6191).
 *
 * Quantiles are nearest rank over all recorded samples: the ceil(q·N)-th smallest of N, without interpolation.
 */
#define _GNU_SOURCE
#include "client.h"
#include "counters.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

static const char PROGRAM[] = "crr";

enum { MAX_FLOWS = 4096, MAX_ERRNO = 256, END_WITHOUT_ANSWER = MAX_ERRNO - 1, FAILURES_IN_A_ROW = 10 };

/* Nanoseconds of one CRR: the whole, up to the end of connect(2), and from there up to the answer. */
struct sample {
    uint64_t total, connect, response;
};

struct flow {
    pthread_t thread;
    struct sample *samples; /* room for all of COUNT: any split over the flows fits */
    uint64_t done;
    unsigned failures_in_a_row;
    uint64_t errors[MAX_ERRNO];
};

/* The byte that a CRR sends. */
static enum { CLIENT_CLOSES = 'c', SERVER_CLOSES = 's' } closing_side = CLIENT_CLOSES;

static struct sockaddr_in server;
static struct cpus cpus;
static uint64_t count, warmup;
static atomic_uint_fast64_t warmup_taken, taken;
static pthread_barrier_t warm, started;

/* Runs one CRR; 0, or the errno of the failure (time-outs as ETIMEDOUT). */
static int one_crr(struct sample *sample) {
    char byte = closing_side, answers[2];
    uint64_t begin = now_ns(), connected = 0, answered = 0;
    int error = 0;
    int fd = tcp_socket();
    if (fd < 0) return errno;
    if (connect(fd, (struct sockaddr *)&server, sizeof server)) {
        error = errno;
    } else {
        connected = now_ns();
        if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1) {
            error = errno;
        } else {
            ssize_t got = recv(fd, answers, sizeof answers, 0);
            answered = now_ns();
            if (got == 1 && closing_side == CLIENT_CLOSES) got = shutdown(fd, SHUT_WR) ? -1 : 1;
            if (got == 1) got = recv(fd, answers, sizeof answers, 0);
            else if (got == 0) error = END_WITHOUT_ANSWER;
            if (got < 0) error = errno;
            else if (got > 0 && !error) error = EPROTO;
        }
    }
    close(fd);
    *sample = (struct sample){now_ns() - begin, connected - begin, answered - connected};
    return error == EAGAIN || error == EINPROGRESS ? ETIMEDOUT : error;
}

static void *run_flow(void *argument) {
    struct flow *flow = argument;
    struct sample sample;
    while (flow->failures_in_a_row < FAILURES_IN_A_ROW && atomic_fetch_add(&warmup_taken, 1) < warmup)
        flow->failures_in_a_row = one_crr(&sample) ? flow->failures_in_a_row + 1 : 0;
    flow->failures_in_a_row = 0;
    pthread_barrier_wait(&warm);
    pthread_barrier_wait(&started);
    while (flow->failures_in_a_row < FAILURES_IN_A_ROW && atomic_fetch_add(&taken, 1) < count) {
        int error = one_crr(&sample);
        flow->failures_in_a_row = error ? flow->failures_in_a_row + 1 : 0;
        if (error) flow->errors[error < MAX_ERRNO ? error : 0]++;
        else flow->samples[flow->done++] = sample;
    }
    return NULL;
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Nearest rank: `per_mille`/1000 of N, rounded up, counted from 1. In microseconds. */
static double quantile_us(const uint64_t *sorted, uint64_t n, uint64_t per_mille) {
    uint64_t rank = (n * per_mille + 999) / 1000;
    return n ? (double)sorted[rank ? rank - 1 : 0] / 1e3 : 0;
}

static void print_quantiles(const char *name, uint64_t *values, uint64_t n) {
    qsort(values, n, sizeof *values, ascending);
    printf(",\"%s\":{\"min\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f}", name,
           quantile_us(values, n, 0), quantile_us(values, n, 500), quantile_us(values, n, 900), quantile_us(values, n, 990),
           quantile_us(values, n, 999), quantile_us(values, n, 1000));
}

static const char *error_name(int error) {
    if (error == END_WITHOUT_ANSWER) return "END_WITHOUT_ANSWER";
    const char *name = strerrorname_np(error);
    return name ? name : "UNKNOWN";
}

static void print_errors(const struct flow *flows, unsigned n) {
    uint64_t all = 0;
    const char *separator = "";
    printf(",\"errors\":{");
    for (int error = 0; error < MAX_ERRNO; error++) {
        uint64_t sum = 0;
        for (unsigned i = 0; i < n; i++) sum += flows[i].errors[error];
        if (!sum) continue;
        printf("%s\"%s\":%llu", separator, error_name(error), (unsigned long long)sum);
        separator = ",";
        all += sum;
    }
    printf("},\"failed\":%llu", (unsigned long long)all);
}

static void print_report(const struct flow *flows, unsigned n, uint64_t elapsed_ns) {
    uint64_t done = 0;
    for (unsigned i = 0; i < n; i++) done += flows[i].done;
    uint64_t *values = malloc((done + 1) * sizeof *values);
    if (!values) fail(PROGRAM, "quantiles", "out of memory");
    double seconds = (double)elapsed_ns / 1e9;
    printf("\"flows\":%u,\"cpus\":%d,\"count\":%llu,\"completed\":%llu,\"seconds\":%.6f,\"rate\":%.1f,\"quantile\":\"nearest-rank\"", n,
           cpus.count, (unsigned long long)count, (unsigned long long)done, seconds, (double)done / seconds);
    static const struct { const char *name; size_t offset; } PHASES[] = {
        {"latencyUs", offsetof(struct sample, total)},
        {"connectUs", offsetof(struct sample, connect)},
        {"responseUs", offsetof(struct sample, response)},
    };
    for (size_t phase = 0; phase < sizeof PHASES / sizeof *PHASES; phase++) {
        uint64_t next = 0;
        for (unsigned i = 0; i < n; i++)
            for (uint64_t j = 0; j < flows[i].done; j++)
                values[next++] = *(const uint64_t *)((const char *)&flows[i].samples[j] + PHASES[phase].offset);
        print_quantiles(PHASES[phase].name, values, done);
    }
    free(values);
    printf(",\"completedPerFlow\":[");
    for (unsigned i = 0; i < n; i++) printf("%s%llu", i ? "," : "", (unsigned long long)flows[i].done);
    printf("]");
    print_errors(flows, n);
}

/* Starts thread `i`, pinned before its first instruction. */
static void start_flow(struct flow *flow, unsigned i) {
    pthread_attr_t attributes;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpus.id[i % (unsigned)cpus.count], &set);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 * 1024);
    pthread_attr_setaffinity_np(&attributes, sizeof set, &set);
    /* mmap'd lazily by the kernel: only what is used costs memory. */
    flow->samples = malloc((count + 1) * sizeof *flow->samples);
    if (!flow->samples) fail(PROGRAM, "samples", "out of memory");
    int error = pthread_create(&flow->thread, &attributes, run_flow, flow);
    if (error) fail(PROGRAM, "thread", strerror(error));
    pthread_attr_destroy(&attributes);
}

int main(int argc, char **argv) {
    if (argc < 5 || argc > 7 || (argc == 7 && strcmp(argv[6], "client") && strcmp(argv[6], "server")))
        fail(PROGRAM, "usage", "crr HOST PORT FLOWS COUNT [WARMUP [client|server]]");
    server = parse_address(PROGRAM, argv[1], argv[2]);
    unsigned n = (unsigned)number(PROGRAM, "flows", argv[3], 1, MAX_FLOWS);
    count = number(PROGRAM, "count", argv[4], 1, 10000000);
    warmup = argc > 5 ? number(PROGRAM, "warm-up", argv[5], 0, 10000000) : 0;
    if (argc > 6) closing_side = argv[6][0] == 's' ? SERVER_CLOSES : CLIENT_CLOSES;
    cpus = allowed_cpus();

    struct flow *flows = calloc(n, sizeof *flows);
    if (!flows) fail(PROGRAM, "flows", "out of memory");
    pthread_barrier_init(&warm, NULL, n + 1);
    pthread_barrier_init(&started, NULL, n + 1);
    for (unsigned i = 0; i < n; i++) start_flow(&flows[i], i);

    char interface[IFNAMSIZ], source[INET_ADDRSTRLEN];
    route_interface(&server, interface, source);
    pthread_barrier_wait(&warm);
    struct counters before = read_counters(interface);
    uint64_t start_ns = now_ns();
    pthread_barrier_wait(&started);
    for (unsigned i = 0; i < n; i++) pthread_join(flows[i].thread, NULL);
    uint64_t elapsed_ns = now_ns() - start_ns;
    struct counters after = read_counters(interface);

    printf("{\"tool\":\"crr\",\"closes\":\"%s\",\"target\":\"%s:%s\",\"source\":\"%s\",\"interface\":\"%s\",", closing_side == CLIENT_CLOSES ? "client" : "server", argv[1], argv[2], source, interface);
    print_report(flows, n, elapsed_ns);
    print_counters(&before, &after);
    printf("}\n");
    return fflush(stdout) ? 2 : 0;
}
