/* What the bare-metal guests share: ports, the console, interrupts, the second vCPU. An emulator takes a microsecond for an instruction. */
#pragma once
#include <stdint.h>

#define CPUS 2
#define FIRST_VECTOR 0x40
#define VECTORS 16
/* The vector of a level-triggered line. */
#define LINE_VECTOR 0x50

/* Interrupts taken, by vCPU and vector. */
extern volatile uint32_t interrupts[CPUS][VECTORS];
/* Interrupts of the line; what was read from the register that acknowledges them, if there is one. */
extern volatile uint32_t line_interrupts, line_status;
extern volatile uint8_t *volatile line_register;

static inline void out8(uint16_t port, uint8_t value) { asm volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static inline void out16(uint16_t port, uint16_t value) { asm volatile("outw %0, %1" ::"a"(value), "Nd"(port)); }
static inline void out32(uint16_t port, uint32_t value) { asm volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
static inline uint8_t in8(uint16_t port) { uint8_t v; asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline uint16_t in16(uint16_t port) { uint16_t v; asm volatile("inw %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline uint32_t in32(uint16_t port) { uint32_t v; asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline void enable_interrupts(void) { asm volatile("sti" ::: "memory"); }
static inline void disable_interrupts(void) { asm volatile("cli" ::: "memory"); }
static inline void relax(void) { asm volatile("pause" ::: "memory"); }
static inline void barrier(void) { asm volatile("mfence" ::: "memory"); }
static inline uint64_t cycles(void) { uint32_t low, high; asm volatile("rdtsc" : "=a"(low), "=d"(high)); return (uint64_t)high << 32 | low; }

static inline void print(const char *text) { while (*text) out8(0x3f8, *text++); }
static inline void print_number(uint32_t value) {
  char digits[11]; int at = 10; digits[at] = 0;
  do digits[--at] = '0' + value % 10; while (value /= 10);
  print(digits + at);
}
/* One line of the report: `name=value`. */
static inline void report(const char *name, uint32_t value) { print(name); print("="); print_number(value); print("\n"); }
static inline __attribute__((noreturn)) void power_off(void) { out16(0x604, 0x2000 | 5 << 10); for (;;) asm volatile("hlt"); }
/* Says what is wrong, and ends the guest. */
static inline __attribute__((noreturn)) void fail(const char *what) { print("failed: "); print(what); print("\n"); power_off(); }

/* Some seconds: only for what hangs. */
#define PATIENCE 10000000000ull
#define wait_for(condition) do { for (uint64_t begun = cycles(); !(condition); relax()) if (cycles() - begun > PATIENCE) fail("waited too long for " #condition); } while (0)
#define check(condition) do { if (!(condition)) fail("not true: " #condition); } while (0)

/* Vectors 0x40 … 0x4f count into `interrupts`, LINE_VECTOR into `line_interrupts`. Both vCPUs call it. */
void load_interrupt_table(void);
/* Sends INIT and SIPI to the vCPU with APIC id 1, which runs `second_main`. */
void start_second(void);
/* Waits until this vCPU has taken all interrupts that its local APIC knows of. */
void interrupts_settle(void);
/* How often a vector was taken, by whichever vCPU. */
static inline uint32_t taken(int vector) { return interrupts[0][vector] + interrupts[1][vector]; }
/* Leads a pin of the I/O APIC, level-triggered and active low, to LINE_VECTOR on vCPU 0; or masks it. */
void route_line(int pin, int masked);
