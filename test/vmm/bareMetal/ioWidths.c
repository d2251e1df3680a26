/* Port accesses of every width and strings of them, and memory accesses of odd sizes and places. */
#include "guest.h"

#define STRING(name, instruction, type)                                                                                \
  static void name(uint16_t port, type *data, uint64_t count) {                                                        \
    asm volatile("rep " instruction : "+S"(data), "+c"(count) : "d"(port) : "memory");                                 \
  }
#define STRING_IN(name, instruction, type)                                                                             \
  static void name(uint16_t port, type *data, uint64_t count) {                                                        \
    asm volatile("rep " instruction : "+D"(data), "+c"(count) : "d"(port) : "memory");                                 \
  }
STRING(outs16, "outsw", uint16_t)
STRING(outs32, "outsl", uint32_t)
STRING_IN(ins16, "insw", uint16_t)
STRING_IN(ins32, "insl", uint32_t)

/* What was found is told at the end: the console is among what is tried out. */
static struct { const char *name; uint32_t value; } notes[64];
static int noted;
static void note(const char *name, uint32_t value) { notes[noted].name = name; notes[noted++].value = value; }

enum { UART = 0x3f8 };

static void strings(void) {
  uint16_t divisors[3] = {0x1111, 0x2222, 0x3456}, read16[3];
  out8(UART + 3, 0x83);
  outs16(UART, divisors, 3);
  ins16(UART, read16, 3);
  note("divisor0", read16[0]);
  note("divisor2", read16[2]);
  uint32_t addresses[2] = {0x80000008, 0x80000000}, identities[3] = {0};
  outs32(0xcf8, addresses, 2);
  ins32(0xcfc, identities, 3);
  note("bridge0", identities[0]);
  note("bridge2", identities[2]);
}

static void widths(void) {
  out16(UART, 0x1234);
  note("low", in8(UART));
  note("high", in8(UART + 1));
  note("word", in16(UART));
  note("dword", in32(UART));
  /* Divisor 0x12ab, FIFOs on, and DLAB stays: line control is the fourth byte. */
  out32(UART, 0x830112ab);
  note("dword2", in32(UART));
  out8(UART + 3, 0x03);
  /* Ends in the scratch register, and behind the port. */
  out16(UART + 7, 0x6677);
  note("edge", in16(UART + 7));
  out16(0x602, 0x0120);
  note("enable", in8(0x603) << 8 | in8(0x602));
  note("status", in32(0x600));
  note("nobody8", in8(0x2f8));
  note("nobody16", in16(0x2f8));
  note("nobody32", in32(0x2f8));
  note("half", in16(0xcfe));
  note("byte", in8(0xcfd));
}

/* The timer's second counter, by which kernels measure their clocks: its output rises when the count is over. */
static void timer(void) {
  out8(0x61, (in8(0x61) & ~2) | 1);
  out8(0x43, 0xb0);
  out8(0x42, 0x00);
  out8(0x42, 0x80);
  note("begun", in8(0x61) >> 5 & 1);
  while (!(in8(0x61) & 0x20)) relax();
  note("over", in8(0x61) >> 5 & 1);
}

static volatile uint8_t *find_memory(void) {
  out32(0xcf8, 0x80000804);
  out32(0xcfc, 0x2);
  out32(0xcf8, 0x80000810);
  return (volatile uint8_t *)(uint64_t)(in32(0xcfc) & ~0xf);
}

static void memory(void) {
  volatile uint8_t *at = find_memory();
  uint64_t quad = 0x8877665544332211;
  *(volatile uint64_t *)at = quad;
  note("quad", *(volatile uint64_t *)at == quad);
  *(volatile uint32_t *)(at + 0x11) = 0xa1b2c3d4;
  note("askew", *(volatile uint32_t *)(at + 0x11) == 0xa1b2c3d4);
  *(volatile uint16_t *)(at + 0x23) = 0xe5f6;
  note("askew16", *(volatile uint16_t *)(at + 0x23) == 0xe5f6);
  /* Three bytes on one page, five on the next. */
  *(volatile uint64_t *)(at + 4096 - 3) = quad;
  note("across", *(volatile uint64_t *)(at + 4096 - 3) == quad);
  volatile uint8_t *to = at + 0x100;
  static uint8_t text[300];
  for (int n = 0; n < 300; n++) text[n] = n * 7;
  const uint8_t *from = text;
  uint64_t count = 300;
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
  uint32_t wrong = 0;
  for (int n = 0; n < 300; n++) wrong += at[0x100 + n] != text[n];
  note("copied", wrong == 0);
  asm volatile("lock xaddl %0, %1" : "+r"(wrong), "+m"(*(volatile uint32_t *)at));
  note("first", *(volatile uint32_t *)at);
  volatile uint8_t *nobody = (volatile uint8_t *)0xf0000000;
  *(volatile uint64_t *)(nobody + 0xffd) = quad;
  note("absent8", *nobody);
  note("absent16", *(volatile uint16_t *)(nobody + 1));
  note("absent32", *(volatile uint32_t *)(nobody + 0xffe));
  note("absent64", *(volatile uint64_t *)nobody == ~0ull);
}

void second_main(void) {}

void main(void) {
  strings();
  widths();
  timer();
  memory();
  for (int n = 0; n < noted; n++) report(notes[n].name, notes[n].value);
  power_off();
}
