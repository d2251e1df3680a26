/* What the bare-metal guests share: ports, the console, interrupts, the second vCPU. */
#pragma once
#include <stdint.h>

extern volatile uint32_t interrupts[16];

static inline void out8(uint16_t port, uint8_t value) { asm volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static inline void out16(uint16_t port, uint16_t value) { asm volatile("outw %0, %1" ::"a"(value), "Nd"(port)); }
static inline void out32(uint16_t port, uint32_t value) { asm volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
static inline uint8_t in8(uint16_t port) { uint8_t v; asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline uint32_t in32(uint16_t port) { uint32_t v; asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline void enable_interrupts(void) { asm volatile("sti" ::: "memory"); }
static inline void relax(void) { asm volatile("pause" ::: "memory"); }

static void print(const char *text) { while (*text) out8(0x3f8, *text++); }
static void print_number(uint32_t value) {
  char digits[11]; int at = 10; digits[at] = 0;
  do digits[--at] = '0' + value % 10; while (value /= 10);
  print(digits + at);
}
/* One line of the report: `name=value`. */
static void report(const char *name, uint32_t value) { print(name); print("="); print_number(value); print("\n"); }
static void power_off(void) { out16(0x604, 0x2000 | 5 << 10); for (;;) asm volatile("hlt"); }

/* Vectors 0x40 … 0x4f count into `interrupts`. Both vCPUs call it. */
void load_interrupt_table(void);
/* Sends INIT and SIPI to the vCPU with APIC id 1, which runs `second_main`. */
void start_second(void);
