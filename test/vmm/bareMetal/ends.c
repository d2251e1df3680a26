/* Comes to the end that the console asks for, on the first vCPU or, after a `2`, on the second. */
#include "guest.h"

static volatile char ordered;

static char next(void) {
  while (!(in8(0x3fd) & 1)) relax();
  return in8(0x3f8);
}

static void end(char how) {
  print("about to end by ");
  out8(0x3f8, how);
  print("\n");
  switch (how) {
    case 't': {
      struct { uint16_t limit; uint64_t base; } __attribute__((packed)) none = {0, 0};
      asm volatile("lidt %0; ud2" ::"m"(none));
      break;
    }
    case 'k': out8(0x64, 0xfe); break;
    case 'r': out8(0xcf9, 6); break;
    case 'p': out8(0x605, 0x20 | 5 << 2); break;
    /* Instructions where there is no memory. */
    case 'j': asm volatile("jmp *%0" ::"r"(0xf0000000ull)); break;
    /* What an emulator of single instructions may not know. */
    case 'x': {
      struct { uint64_t low, high; } __attribute__((aligned(16))) place = {0, 0};
      asm volatile("lock cmpxchg16b %0" : "+m"(place) : "a"(0ull), "d"(0ull), "b"(1ull), "c"(2ull));
      print("done\n");
      power_off();
    }
  }
  for (;;) relax();
}

void second_main(void) {
  while (!ordered) relax();
  end(ordered);
}

void main(void) {
  load_interrupt_table();
  start_second();
  print("how?\n");
  char how = next();
  if (how != '2') end(how);
  ordered = next();
  for (;;) relax();
}
