/* Says hello on both vCPUs, echoes a line of the console, powers off. */
#include "guest.h"

static volatile int second_up;

void second_main(void) {
  second_up = 1;
}

void main(void) {
  print("hello from vCPU 0\n");
  load_interrupt_table();
  start_second();
  while (!second_up) relax();
  print("hello from vCPU 1\n");
  for (char c = 0; c != '\n';) {
    while (!(in8(0x3fd) & 1)) relax();
    c = in8(0x3f8);
    out8(0x3f8, c);
  }
  power_off();
}
