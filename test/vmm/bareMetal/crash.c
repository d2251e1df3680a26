/* Says so, and crashes: there is no handler for the exception, nor for the one that this causes. */
#include "guest.h"

void second_main(void) {}

void main(void) {
  struct { uint16_t limit; uint64_t base; } __attribute__((packed)) none = {0, 0};
  print("about to crash\n");
  asm volatile("lidt %0; ud2" ::"m"(none));
}
