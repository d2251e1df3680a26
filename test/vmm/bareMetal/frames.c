#include "frames.h"

#define HEADER 12
#define ETHERNET 14
#define IP (HEADER + ETHERNET)
#define L4 (IP + 20)
#define GUEST 0x0a00020f
#define GATEWAY 0x0a000202

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

static void put16(volatile uint8_t *at, uint16_t value) { *(volatile uint16_t *)at = __builtin_bswap16(value); }
static void put32(volatile uint8_t *at, uint32_t value) { *(volatile uint32_t *)at = __builtin_bswap32(value); }
static uint16_t get16(volatile uint8_t *at) { return __builtin_bswap16(*(volatile uint16_t *)at); }
static uint32_t get32(volatile uint8_t *at) { return __builtin_bswap32(*(volatile uint32_t *)at); }

/* In the machine's own order: the sum doesn't mind (RFC 1071 §2). */
static uint32_t sum(volatile uint8_t *at, int length, uint32_t so_far) {
  volatile uint16_t *word = (volatile uint16_t *)at;
  for (; length > 1; length -= 2) so_far += *word++;
  return length ? so_far + *(volatile uint8_t *)word : so_far;
}
static uint16_t folded(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return sum + (sum >> 16);
}

static volatile uint8_t *frame(int pair, uint16_t type, uint32_t broadcast) {
  volatile uint8_t *at = queue_buffer(&queues[2 * pair + 1]);
  for (int n = 0; n < HEADER; n += 4) *(volatile uint32_t *)(at + n) = 0;
  /* The gateway's MAC address need not be known: it takes what comes. */
  put32(at + HEADER, broadcast);
  put16(at + HEADER + 4, broadcast);
  for (int n = 0; n < 6; n++) at[HEADER + 6 + n] = card.mac[n];
  put16(at + HEADER + 12, type);
  return at;
}

void arp_ask_quietly(int pair) {
  volatile uint8_t *at = frame(pair, 0x0806, ~0u);
  put32(at + IP, 0x00010800);
  put32(at + IP + 4, 0x06040001);
  for (int n = 0; n < 6; n++) at[IP + 8 + n] = at[HEADER + 6 + n];
  put32(at + IP + 14, GUEST);
  put32(at + IP + 18, 0);
  put16(at + IP + 22, 0);
  put32(at + IP + 24, GATEWAY);
  queue_send(&queues[2 * pair + 1], IP + 28, 0);
}

void arp_ask(int pair) {
  arp_ask_quietly(pair);
  queue_ring(&queues[2 * pair + 1]);
}

void arp_answered(int pair) {
  struct queue *queue = &queues[2 * pair];
  uint32_t length;
  volatile uint8_t *at = queue_take(queue, &length);
  check(length >= IP + 28 && get16(at + HEADER + 12) == 0x0806 && get16(at + IP + 6) == 2);
  check(get32(at + IP + 14) == GATEWAY && get32(at + IP + 24) == GUEST);
  queue_return(queue, at);
}

/* IPv4 header around `length` bytes of L4. */
static void ip(volatile uint8_t *at, uint8_t protocol, uint32_t from, uint32_t to, int length) {
  put32(at + IP, 0x45000000 | (20 + length));
  put32(at + IP + 4, 0x00004000);
  put32(at + IP + 8, 0x40000000 | (uint32_t)protocol << 16);
  put32(at + IP + 12, from);
  put32(at + IP + 16, to);
  *(volatile uint16_t *)(at + IP + 10) = ~folded(sum(at + IP, 20, 0));
}

/* RFC 2131 §2, §3; UDP without a checksum (RFC 768). */
uint32_t dhcp_discover(int pair) {
  enum { MESSAGE = 244, DHCP = L4 + 8, TRANSACTION = 0x51197a11 };
  volatile uint8_t *at = frame(pair, 0x0800, ~0u);
  ip(at, 17, 0, ~0u, 8 + MESSAGE);
  put32(at + L4, 68 << 16 | 67);
  put32(at + L4 + 4, (8 + MESSAGE) << 16);
  for (int n = 0; n < MESSAGE; n += 4) *(volatile uint32_t *)(at + DHCP + n) = 0;
  put32(at + DHCP, 0x01010600);
  put32(at + DHCP + 4, TRANSACTION);
  for (int n = 0; n < 6; n++) at[DHCP + 28 + n] = card.mac[n];
  put32(at + DHCP + 236, 0x63825363);
  put32(at + DHCP + 240, 0x350101ff);
  queue_send(&queues[2 * pair + 1], DHCP + MESSAGE, 1);
  struct queue *queue = &queues[2 * pair];
  uint32_t length;
  at = queue_take(queue, &length);
  check(length > DHCP + 240 && get16(at + L4 + 2) == 68 && get32(at + DHCP + 4) == TRANSACTION);
  uint32_t offered = get32(at + DHCP + 16);
  queue_return(queue, at);
  return offered;
}

static void segment(struct connection *c, uint8_t flags, const char *data, int length) {
  volatile uint8_t *at = frame(c->pair, 0x0800, 0x52550a00);
  ip(at, 6, GUEST, GATEWAY, 20 + length);
  put16(at + L4, c->from);
  put16(at + L4 + 2, c->to);
  put32(at + L4 + 4, c->next);
  put32(at + L4 + 8, flags & ACK ? c->expected : 0);
  put32(at + L4 + 12, 0x5000ffff | (uint32_t)flags << 16);
  put32(at + L4 + 16, 0);
  for (int n = 0; n < length; n++) at[L4 + 20 + n] = data[n];
  uint32_t pseudo = sum(at + IP + 12, 8, __builtin_bswap16(6) + __builtin_bswap16(20 + length));
  *(volatile uint16_t *)(at + L4 + 16) = ~folded(sum(at + L4, 20 + length, pseudo));
  c->next += length + (flags & SYN ? 1 : 0) + (flags & FIN ? 1 : 0);
  queue_send(&queues[2 * c->pair + 1], L4 + 20 + length, 1);
}

/* Takes one segment, checks its sums. Its flags; what of its data is next in order goes to `data`. */
static uint8_t take(struct connection *c, char *data, int *length) {
  struct queue *queue = &queues[2 * c->pair], *other = &queues[2 - 2 * c->pair];
  if (c->anywhere) {
    wait_for(queue_has_used(queue) || queue_has_used(other));
    if (queue_has_used(other)) queue = other;
  }
  uint32_t bytes;
  volatile uint8_t *at = queue_take(queue, &bytes);
  int total = get16(at + IP + 2), header = at[L4 + 12] >> 4 << 2;
  check(get16(at + HEADER + 12) == 0x0800 && at[IP + 9] == 6);
  check(get16(at + L4) == c->to && get16(at + L4 + 2) == c->from);
  uint32_t pseudo = sum(at + IP + 12, 8, __builtin_bswap16(6) + __builtin_bswap16(total - 20));
  check(folded(sum(at + IP, 20, 0)) == 0xffff && folded(sum(at + L4, total - 20, pseudo)) == 0xffff);
  uint8_t flags = at[L4 + 13];
  if (flags & SYN) c->expected = get32(at + L4 + 4);
  *length = 0;
  if (get32(at + L4 + 4) == c->expected) {
    *length = total - 20 - header;
    for (int n = 0; n < *length; n++) data[n] = at[L4 + header + n];
    c->expected += *length + (flags & SYN ? 1 : 0) + (flags & FIN ? 1 : 0);
  }
  queue_return(queue, at);
  return flags;
}

static const char text[] = "a message from bare metal\n";
#define TEXT ((int)sizeof text - 1)

int tcp_open(struct connection *c, int pair, uint16_t from, uint16_t to) {
  char data[BUFFER];
  int length;
  *c = (struct connection){pair, from, to, 1000000, 0, 0};
  segment(c, SYN, 0, 0);
  uint8_t flags = take(c, data, &length);
  if (flags & RST) return 0;
  check((flags & (SYN | ACK)) == (SYN | ACK));
  segment(c, ACK, 0, 0);
  return 1;
}

void tcp_echo(struct connection *c, int rounds) {
  char data[BUFFER];
  for (int n = 0; n < rounds; n++) {
    segment(c, PSH | ACK, text, TEXT);
    for (int got = 0, length; got < TEXT; got += length) {
      check(!(take(c, data, &length) & (RST | FIN)));
      for (int at = 0; at < length; at++) check(data[at] == text[got + at]);
    }
  }
}

void tcp_close(struct connection *c) {
  char data[BUFFER];
  int length;
  segment(c, FIN | ACK, 0, 0);
  while (!(take(c, data, &length) & FIN)) check(length == 0);
  segment(c, ACK, 0, 0);
}
