#include "guest.h"

extern char handlers[], spurious[], trampoline[], trampoline_end[];
volatile uint32_t interrupts[16];
static uint64_t table[256][2];
static volatile uint32_t *const apic = (volatile uint32_t *)0xfee00000;

static void set_gate(int vector, const char *handler) {
  uint64_t at = (uint64_t)handler;
  table[vector][0] = (at & 0xffff) | 0x10 << 16 | (uint64_t)0x8e00 << 32 | (at >> 16 & 0xffff) << 48;
  table[vector][1] = at >> 32;
}

void load_interrupt_table(void) {
  struct { uint16_t limit; uint64_t base; } __attribute__((packed)) pointer = {sizeof table - 1, (uint64_t)table};
  for (int n = 0; n < 16; n++) set_gate(0x40 + n, handlers + 32 * n);
  set_gate(0xff, spurious);
  asm volatile("lidt %0" ::"m"(pointer));
  apic[0xf0 / 4] = 0x1ff;
}

void start_second(void) {
  char *to = (char *)0x8000;
  for (char *from = trampoline; from < trampoline_end; from++) *to++ = *from;
  apic[0x310 / 4] = 1 << 24;
  apic[0x300 / 4] = 0x4500;
  for (volatile int n = 0; n < 1000; n++) relax();
  apic[0x310 / 4] = 1 << 24;
  apic[0x300 / 4] = 0x4608;
}
