/* Guests that come to an end, or to none, as the command line says. */
#include "guest.h"

void second_main(void) {}

void main(void) {
  /* cmd_line_ptr of the boot parameters (Documentation/arch/x86/boot.rst). */
  const char *command = (const char *)(uint64_t) * (volatile uint32_t *)0x7228;
  print("ready\n");
  switch (*command) {
    case 't': {
      /* No handler for the exception, nor for the one that this causes. */
      struct { uint16_t limit; uint64_t base; } __attribute__((packed)) none = {0, 0};
      asm volatile("lidt %0; ud2" ::"m"(none));
      break;
    }
    case 'e':
      /* Instructions can't be fetched from where no memory is. */
      ((void (*)(void))0xd0000000)();
      break;
    case 'r':
      /* Resets the machine, and again if it goes on. */
      for (;;) out8(0x64, 0xfe);
    case 'h':
      print("halted\n");
      asm volatile("cli; 1: hlt; jmp 1b");
      break;
    case 'l':
      print("stuck\n");
      asm volatile("cli; 1: jmp 1b");
      break;
  }
}
