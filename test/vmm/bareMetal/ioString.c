/* Strings and wide accesses to the console's ports, as the console's commands say; q powers off. */
#include "guest.h"

void second_main(void) {}

static void out_string(uint16_t port, const void *from, uint64_t count, int size) {
  if (size == 1) asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(port) : "memory");
  else if (size == 2) asm volatile("rep outsw" : "+S"(from), "+c"(count) : "d"(port) : "memory");
  else asm volatile("rep outsl" : "+S"(from), "+c"(count) : "d"(port) : "memory");
}

static void in_string(uint16_t port, void *to, uint64_t count) {
  asm volatile("rep insb" : "+D"(to), "+c"(count) : "d"(port) : "memory");
}

static char next_byte(void) {
  while (!(in8(0x3fd) & 1)) relax();
  return in8(0x3f8);
}

static char buffer[6000];

void main(void) {
  for (;;) {
    switch (next_byte()) {
      case 's':
        /* Longer than a page: several exits. */
        for (unsigned n = 0; n < sizeof buffer; n++) buffer[n] = 'a' + n % 26;
        out_string(0x3f8, buffer, sizeof buffer, 1);
        break;
      case 'i':
        /* What follows has come already. */
        in_string(0x3f8, buffer, 10);
        out_string(0x3f8, buffer, 10, 1);
        break;
      case 'w':
        /* Each item is the scratch register and, where there is one, the port behind it. */
        out_string(0x3ff, "1234", 2, 2);
        report("scratch", in8(0x3ff));
        out_string(0x3ff, "wxyzWXYZ", 2, 4);
        report("scratch", in8(0x3ff));
        report("wide", in32(0x3fc) >> 24);
        break;
      case 'x':
        /* The first byte resets the machine. */
        out_string(0x64, "\xfe\xfe\xfe\xfe", 4, 1);
        break;
      case 'q':
        power_off();
    }
    print("\n");
  }
}
