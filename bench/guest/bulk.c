/*
 * bulk: moves data over several TCP streams and proves that it arrived whole and in order, on request while its threads
 * hop between CPUs.
 *
 *     bulk send|receive HOST PORT BYTES|MILLISECONDSms STREAMS [HOP_MS]
 *
 * STREAMS connections, one thread each, move BYTES in all, split over them, or what each can in so many milliseconds (1500ms):
 * the sender stops then, and the run ends once both ends have compared. With HOP_MS, a further thread moves every stream to its next
 * CPU each HOP_MS milliseconds by sched_setaffinity(2): the guest's kernel then sends the flow's packets on another
 * queue pair. Format and checksum: bulk.h. Prints one line of JSON. Exit code 0 if every stream's checksums agree, 1 if one
 * differs or a stream failed (moved nothing for STALL_TIMEOUT_S, or as its errno says), 2 for bad arguments.
 */
#define _GNU_SOURCE
#include "bulk.h"
#include "counters.h"

#include <pthread.h>
#include <stdatomic.h>

static const char PROGRAM[] = "bulk";

enum { MAX_STREAMS = 1024, STALL_TIMEOUT_S = 60 };
static const uint64_t MAX_BYTES = 1ull << 50, MAX_MILLISECONDS = 1ull << 40;

struct stream {
    pthread_t thread;
    _Atomic pid_t tid;
    struct bulk_request request;
    uint64_t wrong_at;
    struct bulk_sum mine, theirs;
    int error;
};

static struct sockaddr_in server;
static atomic_int running;

static int transfer(struct stream *stream, int fd) {
    const struct bulk_request *request = &stream->request;
    if (connect(fd, (struct sockaddr *)&server, sizeof server)) return errno == EINPROGRESS ? ETIMEDOUT : errno;
    /* A transfer may stall for longer than a CRR may. */
    struct timeval limit = {.tv_sec = STALL_TIMEOUT_S};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    int error = bulk_send_all(fd, request, sizeof *request, 0);
    if (!error)
        error = request->direction == BULK_CLIENT_SENDS
                    ? bulk_send(fd, request, &stream->mine, &stream->theirs)
                    : bulk_receive(fd, request->seed, &stream->mine, &stream->theirs, &stream->wrong_at);
    char none;
    if (!error) recv(fd, &none, 1, 0); /* the server closes once it has compared */
    return error;
}

static void *run_stream(void *argument) {
    struct stream *stream = argument;
    stream->tid = gettid();
    int fd = tcp_socket();
    stream->error = fd < 0 ? errno : transfer(stream, fd);
    if (fd >= 0) close(fd);
    stream->tid = 0;
    atomic_fetch_sub(&running, 1);
    return NULL;
}

/* Moves all live streams one CPU further each `hop_ms`; returns how often once no stream is left. */
static uint64_t hop(struct stream *streams, unsigned n, unsigned hop_ms, const struct cpus *cpus) {
    struct timespec pause = {.tv_sec = hop_ms / 1000, .tv_nsec = hop_ms % 1000 * 1000000l};
    uint64_t hops = 0;
    for (; atomic_load(&running) > 0; hops++) {
        for (unsigned i = 0; i < n; i++) {
            pid_t tid = streams[i].tid;
            if (tid) pin(tid, cpus, (unsigned)(i + hops)); /* ESRCH: the thread has just ended */
        }
        nanosleep(&pause, NULL);
    }
    return hops;
}

/* What stream `i` of `n` is to move, as `amount` says. */
static struct bulk_request parse_request(const char *direction, const char *amount, unsigned i, unsigned n) {
    struct bulk_request request = {BULK_MAGIC, strcmp(direction, "send") ? BULK_CLIENT_RECEIVES : BULK_CLIENT_SENDS, MAX_BYTES, i,
                                   MAX_MILLISECONDS};
    char digits[24] = "";
    size_t length = strlen(amount);
    if (length > 2 && length < sizeof digits && !strcmp(amount + length - 2, "ms")) {
        memcpy(digits, amount, length - 2);
        request.milliseconds = number(PROGRAM, "milliseconds", digits, 1, MAX_MILLISECONDS);
    } else {
        uint64_t bytes = number(PROGRAM, "bytes", amount, 1, MAX_BYTES);
        request.bytes = bytes / n + (i < bytes % n);
    }
    return request;
}

static int is_whole(const struct stream *stream) {
    return !stream->error && bulk_equal(&stream->mine, &stream->theirs) && stream->wrong_at == UINT64_MAX;
}

static void print_stream(const struct stream *stream) {
    printf("{\"bytes\":%llu,\"checksum\":\"%016llx\",\"peerBytes\":%llu,\"peerChecksum\":\"%016llx\",\"equal\":%s",
           (unsigned long long)stream->mine.bytes, (unsigned long long)stream->mine.checksum, (unsigned long long)stream->theirs.bytes,
           (unsigned long long)stream->theirs.checksum, is_whole(stream) ? "true" : "false");
    if (stream->wrong_at != UINT64_MAX) printf(",\"firstWrongOffset\":%llu", (unsigned long long)stream->wrong_at);
    if (stream->error) printf(",\"error\":\"%s\"", strerrorname_np(stream->error));
    printf("}");
}

int main(int argc, char **argv) {
    if (argc < 6 || argc > 7 || (strcmp(argv[1], "send") && strcmp(argv[1], "receive")))
        fail(PROGRAM, "usage", "bulk send|receive HOST PORT BYTES|MILLISECONDSms STREAMS [HOP_MS]");
    server = parse_address(PROGRAM, argv[2], argv[3]);
    unsigned n = (unsigned)number(PROGRAM, "streams", argv[5], 1, MAX_STREAMS);
    unsigned hop_ms = argc > 6 ? (unsigned)number(PROGRAM, "hop interval", argv[6], 0, 3600000) : 0;
    struct cpus cpus = allowed_cpus();
    struct stream *streams = calloc(n, sizeof *streams);
    if (!streams) fail(PROGRAM, "streams", "out of memory");
    for (unsigned i = 0; i < n; i++) {
        streams[i].request = parse_request(argv[1], argv[4], i, n);
        streams[i].wrong_at = UINT64_MAX;
    }

    char interface[IFNAMSIZ], source[INET_ADDRSTRLEN];
    route_interface(&server, interface, source);
    struct counters before = read_counters(interface);
    uint64_t begin = now_ns();
    atomic_store(&running, (int)n);
    for (unsigned i = 0; i < n; i++) {
        int error = pthread_create(&streams[i].thread, NULL, run_stream, &streams[i]);
        if (error) fail(PROGRAM, "thread", strerror(error));
    }
    uint64_t hops = hop_ms ? hop(streams, n, hop_ms, &cpus) : 0;
    for (unsigned i = 0; i < n; i++) pthread_join(streams[i].thread, NULL);
    double seconds = (double)(now_ns() - begin) / 1e9;
    struct counters after = read_counters(interface);

    int whole = 1;
    uint64_t moved = 0;
    for (unsigned i = 0; i < n; i++) {
        whole &= is_whole(&streams[i]);
        moved += streams[i].mine.bytes;
    }
    printf("{\"tool\":\"bulk\",\"direction\":\"%s\",\"interface\":\"%s\",\"bytes\":%llu,\"seconds\":%.6f,\"mbitPerSecond\":%.1f,"
           "\"cpus\":%d,\"hops\":%llu,\"equal\":%s,\"streams\":[",
           argv[1], interface, (unsigned long long)moved, seconds, (double)moved * 8 / 1e6 / seconds, cpus.count,
           (unsigned long long)hops, whole ? "true" : "false");
    for (unsigned i = 0; i < n; i++) {
        if (i) printf(",");
        print_stream(&streams[i]);
    }
    printf("]");
    print_counters(&before, &after);
    printf("}\n");
    return fflush(stdout) ? 2 : !whole;
}
