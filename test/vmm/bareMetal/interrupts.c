#include "guest.h"

extern char handlers[], spurious[], trampoline[], trampoline_end[];
volatile uint32_t interrupts[CPUS][VECTORS];
volatile uint32_t line_interrupts, line_status;
volatile uint8_t *volatile line_register;
static uint64_t table[256][2];
static volatile uint32_t *const apic = (volatile uint32_t *)0xfee00000;
static volatile uint32_t *const io_apic = (volatile uint32_t *)0xfec00000;

/* The register is read before the interrupt ends: else the line, still up, interrupts again. */
static __attribute__((interrupt)) void line_handler(void *frame) {
  (void)frame;
  line_interrupts++;
  if (line_register) line_status |= *line_register;
  apic[0xb0 / 4] = 0;
}

static void set_gate(int vector, const void *handler) {
  uint64_t at = (uint64_t)handler;
  table[vector][0] = (at & 0xffff) | 0x10 << 16 | (uint64_t)0x8e00 << 32 | (at >> 16 & 0xffff) << 48;
  table[vector][1] = at >> 32;
}

void load_interrupt_table(void) {
  struct { uint16_t limit; uint64_t base; } __attribute__((packed)) pointer = {sizeof table - 1, (uint64_t)table};
  for (int n = 0; n < VECTORS; n++) set_gate(FIRST_VECTOR + n, handlers + 64 * n);
  set_gate(LINE_VECTOR, line_handler);
  set_gate(0xff, spurious);
  asm volatile("lidt %0" ::"m"(pointer));
  /* Interrupts of lines come from the I/O APIC: the 8259s are masked, as systems do that use it. */
  out8(0x21, 0xff);
  out8(0xa1, 0xff);
  apic[0xf0 / 4] = 0x1ff;
}

/* In-Service and Interrupt Request Register: 32 vectors each 16 bytes (Intel SDM 3 §11.8.4). */
void interrupts_settle(void) {
  wait_for(!((apic[(0x100 + FIRST_VECTOR / 2) / 4] | apic[(0x200 + FIRST_VECTOR / 2) / 4]) & 0xffff));
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

static void io_apic_write(int index, uint32_t value) {
  io_apic[0] = index;
  io_apic[4] = value;
}

void route_line(int pin, int masked) {
  io_apic_write(0x11 + 2 * pin, 0);
  io_apic_write(0x10 + 2 * pin, LINE_VECTOR | 1 << 13 | 1 << 15 | (masked ? 1 << 16 : 0));
}
