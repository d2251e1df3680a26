/* Writes its own address to the first, a middle and the last word of each piece of memory that the boot parameters tell of, and reads them back. */
#include "guest.h"

#define GIB (1ull << 30)
#define GIGABYTES 16
#define PAGE_TABLES 0x9000ull

struct e820 { uint64_t start, size; uint32_t type; } __attribute__((packed));

static uint64_t directories[GIGABYTES][512] __attribute__((aligned(4096)));

void second_main(void) {}

/* The start maps 4 GiB; here is more, one to one by 2 MiB (Intel SDM 3 §4.5). */
static void map_all(void) {
  uint64_t *pointers = (uint64_t *)(PAGE_TABLES + 4096);
  for (uint64_t n = 4; n < GIGABYTES; n++) {
    for (uint64_t page = 0; page < 512; page++) directories[n][page] = (n * GIB + (page << 21)) | 0x83;
    pointers[n] = (uint64_t)directories[n] | 3;
  }
  asm volatile("mov %0, %%cr3" ::"r"(PAGE_TABLES) : "memory");
}

void main(void) {
  map_all();
  unsigned entries = *(volatile uint8_t *)0x71e8, wrong = 0;
  volatile struct e820 *table = (volatile struct e820 *)0x72d0;
  uint64_t words[3 * 16];
  unsigned count = 0;
  for (unsigned n = 0; n < entries; n++) {
    uint64_t start = table[n].start, size = table[n].size;
    /* What lies below 1 MiB is in use, and this code behind it. */
    if (table[n].type != 1 || start + size <= GIB / 2) continue;
    words[count++] = start < GIB / 2 ? GIB / 2 : start;
    words[count++] = start + (size / 2 & ~7ull);
    words[count++] = start + size - 8;
  }
  for (unsigned n = 0; n < count; n++) *(volatile uint64_t *)words[n] = words[n];
  for (unsigned n = 0; n < count; n++) wrong += *(volatile uint64_t *)words[n] != words[n];
  report("words", count);
  report("wrong", wrong);
  power_off();
}
