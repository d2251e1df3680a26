/* Reads the memory map that it was given, and touches pages at the edges of each piece of usable memory and in between. */
#include "guest.h"

struct entry { uint64_t start, size; uint32_t type; } __attribute__((packed));
static const uint8_t *const params = (const uint8_t *)0x7000;
enum { USABLE = 1, PAGE = 4096, TOUCHED = 16 };
static uint64_t touched[256];
static int count;

/* The tables at the start map 4 GiB: here are as many more, by pages of 2 MiB, behind the fourth. */
static uint64_t directories[8][512] __attribute__((aligned(4096)));
static void map_above(void) {
  uint64_t *pointers = (uint64_t *)0xa000;
  for (uint64_t n = 0; n < 8; n++) {
    for (uint64_t i = 0; i < 512; i++) directories[n][i] = (4 + n) << 30 | i << 21 | 0x83;
    pointers[4 + n] = (uint64_t)directories[n] | 3;
  }
}

static void print_hex(uint64_t value) {
  for (int shift = 60; shift >= 0; shift -= 4) out8(0x3f8, "0123456789abcdef"[value >> shift & 15]);
}

static uint64_t mark(uint64_t address) { return address * 0x9e3779b97f4a7c15 ^ 0x5a5a5a5a5a5a5a5a; }

/* All usable memory but the first 2 MiB, which hold this program. */
static void choose(uint64_t start, uint64_t end) {
  if (start < 2 << 20) start = 2 << 20;
  if (end <= start) return;
  uint64_t step = (end - start) / TOUCHED & -(uint64_t)PAGE;
  for (int n = 0; n < TOUCHED; n++) touched[count++] = start + n * step;
  touched[count++] = end - 8;
}

void second_main(void) {}

void main(void) {
  map_above();
  const struct entry *table = (const struct entry *)(params + 0x2d0);
  for (int n = 0; n < params[0x1e8]; n++) {
    print("memory ");
    print_hex(table[n].start);
    print(" ");
    print_hex(table[n].size);
    print(" ");
    print_number(table[n].type);
    print("\n");
    if (table[n].type == USABLE) choose(table[n].start, table[n].start + table[n].size);
  }
  uint32_t dirty = 0, wrong = 0;
  for (int n = 0; n < count; n++) dirty += *(volatile uint64_t *)touched[n] != 0;
  for (int n = 0; n < count; n++) *(volatile uint64_t *)touched[n] = mark(touched[n]);
  for (int n = 0; n < count; n++) wrong += *(volatile uint64_t *)touched[n] != mark(touched[n]);
  report("touched", count);
  report("dirty", dirty);
  report("wrong", wrong);
  power_off();
}
