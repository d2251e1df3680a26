/*
 * What the guest's kernel counted while a client ran: packets per queue pair of the interface on its route, and TCP
 * retransmissions.
 */
#ifndef SLIPWAY_BENCH_COUNTERS_H
#define SLIPWAY_BENCH_COUNTERS_H

#include "client.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>

enum { MAX_QUEUES = 64 };

/* Packets per queue pair and TCP retransmissions so far. */
struct counters {
    int queues;
    uint64_t rx[MAX_QUEUES], tx[MAX_QUEUES], retransmits;
};

/* virtio_net names them rx_queue_0_packets up to Linux 6.8 and rx0_packets from then on. */
static inline void add_queue_counter(struct counters *counters, const char *name, uint64_t value) {
    unsigned queue;
    char direction, unit[ETH_GSTRING_LEN + 1];
    if (sscanf(name, "%cx_queue_%u_%32s", &direction, &queue, unit) != 3 &&
        sscanf(name, "%cx%u_%32s", &direction, &queue, unit) != 3) return;
    if (strcmp(unit, "packets") || queue >= MAX_QUEUES || (direction != 'r' && direction != 't')) return;
    (direction == 'r' ? counters->rx : counters->tx)[queue] = value;
    if ((int)queue >= counters->queues) counters->queues = (int)queue + 1;
}

/* The statistics of `interface` by SIOCETHTOOL; leaves `counters` alone for a driver that has none (lo). */
static inline void read_queue_counters(struct counters *counters, const char *interface) {
    struct { struct ethtool_sset_info info; uint32_t length; } set = {
        .info = {.cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1u << ETH_SS_STATS}};
    struct ifreq request = {.ifr_data = (void *)&set};
    strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    if (ioctl(fd, SIOCETHTOOL, &request) == 0 && set.info.sset_mask && set.info.data[0]) {
        uint32_t length = set.info.data[0];
        struct ethtool_gstrings *names = calloc(1, sizeof *names + (size_t)length * ETH_GSTRING_LEN);
        struct ethtool_stats *values = calloc(1, sizeof *values + (size_t)length * sizeof(uint64_t));
        if (names && values) {
            *names = (struct ethtool_gstrings){.cmd = ETHTOOL_GSTRINGS, .string_set = ETH_SS_STATS, .len = length};
            *values = (struct ethtool_stats){.cmd = ETHTOOL_GSTATS, .n_stats = length};
            request.ifr_data = (void *)names;
            int failed = ioctl(fd, SIOCETHTOOL, &request);
            request.ifr_data = (void *)values;
            failed |= ioctl(fd, SIOCETHTOOL, &request);
            for (uint32_t i = 0; !failed && i < length; i++) {
                char name[ETH_GSTRING_LEN + 1] = {0};
                memcpy(name, names->data + (size_t)i * ETH_GSTRING_LEN, ETH_GSTRING_LEN);
                add_queue_counter(counters, name, values->data[i]);
            }
        }
        free(names);
        free(values);
    }
    close(fd);
}

/* RetransSegs of /proc/net/snmp (RFC 4022): column found by its name in the line of names. */
static inline uint64_t read_retransmits(void) {
    char names[1024], values[1024];
    uint64_t found = 0;
    FILE *file = fopen("/proc/net/snmp", "r");
    if (!file) return 0;
    while (fgets(names, sizeof names, file) && fgets(values, sizeof values, file)) {
        if (strncmp(names, "Tcp:", 4)) continue;
        char *name_rest, *value_rest;
        char *name = strtok_r(names, " \n", &name_rest), *value = strtok_r(values, " \n", &value_rest);
        for (; name && value; name = strtok_r(NULL, " \n", &name_rest), value = strtok_r(NULL, " \n", &value_rest))
            if (!strcmp(name, "RetransSegs")) found = strtoull(value, NULL, 10);
    }
    fclose(file);
    return found;
}

/* The interface that leads to `server`: that of the local address which the kernel's routes choose. "" if unknown. */
static inline void route_interface(const struct sockaddr_in *server, char interface[IFNAMSIZ], char source[INET_ADDRSTRLEN]) {
    struct sockaddr_in local = {0};
    socklen_t length = sizeof local;
    interface[0] = source[0] = 0;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    if (!connect(fd, (const struct sockaddr *)server, sizeof *server) && !getsockname(fd, (struct sockaddr *)&local, &length)) {
        inet_ntop(AF_INET, &local.sin_addr, source, INET_ADDRSTRLEN);
        struct if_nameindex *all = if_nameindex();
        for (struct if_nameindex *each = all; each && each->if_index; each++) {
            struct ifreq request = {0};
            strncpy(request.ifr_name, each->if_name, IFNAMSIZ - 1);
            struct sockaddr_in *address = (struct sockaddr_in *)&request.ifr_addr;
            if (!ioctl(fd, SIOCGIFADDR, &request) && address->sin_addr.s_addr == local.sin_addr.s_addr)
                memcpy(interface, request.ifr_name, IFNAMSIZ);
        }
        if (all) if_freenameindex(all);
    }
    close(fd);
}

/* What has been counted up to now; without queue pairs for an interface of "". */
static inline struct counters read_counters(const char *interface) {
    struct counters counters = {.retransmits = read_retransmits()};
    if (interface[0]) read_queue_counters(&counters, interface);
    return counters;
}

/* What was counted in between, as the end of a JSON object. */
static inline void print_counters(const struct counters *before, const struct counters *after) {
    printf(",\"retransmits\":%llu,\"queues\":[", (unsigned long long)(after->retransmits - before->retransmits));
    for (int i = 0; i < after->queues; i++)
        printf("%s{\"rx\":%llu,\"tx\":%llu}", i ? "," : "", (unsigned long long)(after->rx[i] - before->rx[i]),
               (unsigned long long)(after->tx[i] - before->tx[i]));
    printf("]");
}

#endif
