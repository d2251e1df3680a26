/* Drives the virtio network card from two vCPUs, a queue pair each; the command line names the scenario. */
#include "frames.h"

/* Interrupt vectors (from FIRST_VECTOR): those of the table entries, and one that none has at first. */
#define CONFIG_ENTRY 0
#define ENTRY_OF(queue) ((queue) + 1)
#define SPARE 8

static uint32_t parameters[4];

/* -- the second vCPU ---------------------------------------------------------------------------------------------- */

static void (*volatile job)(void);
static volatile int second_up;

void second_main(void) {
  load_interrupt_table();
  enable_interrupts();
  second_up = 1;
  for (;;) {
    while (!job) relax();
    job();
    job = 0;
  }
}

static void begin_on_second(void (*work)(void)) { barrier(); job = work; }
static void end_on_second(void) { wait_for(!job); }
static void on_second(void (*work)(void)) { begin_on_second(work); end_on_second(); }

/* -- pieces ------------------------------------------------------------------------------------------------------- */

static void start(void) {
  card_start(1);
  check(set_pairs(2) == 0);
  wait_for(taken(ENTRY_OF(CONTROL)) > 0);
}

/* An exchange on a pair whose answer is awaited by its interrupt, at whichever of two vectors. */
static void arp_by_interrupt(int pair, int vector, int other) {
  uint32_t before = taken(vector) + taken(other);
  arp_ask(pair);
  wait_for(taken(vector) + taken(other) > before);
  arp_answered(pair);
}

static void report_interrupts(void) {
  for (int cpu = 0; cpu < CPUS; cpu++)
    for (int vector = 0; vector < VECTORS; vector++) {
      if (!interrupts[cpu][vector]) continue;
      print("interrupts.");
      print_number(cpu);
      print(".");
      print_number(vector);
      report("", interrupts[cpu][vector]);
    }
}

/* -- scenarios ---------------------------------------------------------------------------------------------------- */

#define ROUNDS 20
#define PORT parameters[0]
#define CLOSED_PORT parameters[1]

static void exchanges_on_pair1(void) {
  for (int n = 0; n < ROUNDS; n++) arp_by_interrupt(1, ENTRY_OF(2), ENTRY_OF(2));
}

static void connection_on(int pair) {
  struct connection c;
  check(tcp_open(&c, pair, 5000 + pair, PORT));
  tcp_echo(&c, ROUNDS);
  tcp_close(&c);
}

static void connection_on_pair1(void) { connection_on(1); }

/* ARP, DHCP and TCP, on both pairs at once. */
static void traffic(void) {
  report("slot", card.slot);
  report("ecam", acpi_has_ecam());
  report("line", pci_read8(card.slot, PCI_LINE));
  report("barSize", pci_bar_size(card.slot));
  report("pairs", *(volatile uint16_t *)(card.config + 8));
  start();
  begin_on_second(exchanges_on_pair1);
  for (int n = 0; n < ROUNDS; n++) arp_by_interrupt(0, ENTRY_OF(0), ENTRY_OF(0));
  end_on_second();
  report("offered", dhcp_discover(0));
  begin_on_second(connection_on_pair1);
  connection_on(0);
  end_on_second();
  struct connection refused;
  check(!tcp_open(&refused, 0, 5002, CLOSED_PORT));
  report_interrupts();
}

/* Whether the line is down: up, it would interrupt all the time. */
static int line_is_quiet(void) {
  uint32_t before = line_interrupts;
  for (int wait = 0; wait < 1000; wait++) relax();
  return line_interrupts == before;
}

/* By INTx: one line for everything, taken back by reading ISR. */
static void line(void) {
  int pin = pci_read8(card.slot, PCI_LINE);
  report("pin", pci_read8(card.slot, PCI_LINE + 1));
  report("line", pin);
  card_start(0);
  line_register = card.isr;
  route_line(pin, 0);
  check(set_pairs(2) == 0);
  wait_for(line_interrupts > 0);
  for (int n = 0; n < ROUNDS; n++) {
    int pair = n & 1;
    arp_ask(pair);
    wait_for(queue_has_used(&queues[2 * pair]));
    wait_for(line_status & 1);
    line_status = 0;
    arp_answered(pair);
  }
  wait_for(line_is_quiet());
  /* A driver that doesn't read ISR is interrupted again and again: the line is a level. */
  uint32_t before = line_interrupts;
  line_register = 0;
  arp_ask(0);
  wait_for(line_interrupts > before + 5);
  line_register = card.isr;
  arp_answered(0);
  line_status = 0;
  /* Interrupt Disable takes the line down, not the request (PCI 3.0 §6.2.2, §6.2.3). */
  line_register = 0;
  route_line(pin, 1);
  arp(0);
  pci_write16(card.slot, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_OFF);
  wait_for(pci_read16(card.slot, 6) & 8);
  line_register = card.isr;
  route_line(pin, 0);
  for (int n = 0; n < 50; n++) relax();
  before = line_interrupts;
  pci_write16(card.slot, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  wait_for(line_status & 1);
  /* The interrupt for the frame that was sent may come only now, and be taken back in its turn. */
  wait_for(!(pci_read16(card.slot, 6) & 8));
  wait_for(line_is_quiet());
  report("interrupts", line_interrupts);
  report("exchanges", ROUNDS);
  for (int vector = 0; vector < VECTORS; vector++) check(!taken(vector));
}

/* What is on its way to either vCPU is counted first. */
static void all_settle(void) {
  interrupts_settle();
  on_second(interrupts_settle);
}

/* A masked entry's interrupt waits in the pending bit (PCI 3.0 §6.8.2.8, §6.8.3). */
static void mask(void) {
  start();
  for (int n = 0; n < 5; n++) {
    msix_mask(ENTRY_OF(0), 1);
    all_settle();
    uint32_t before = taken(ENTRY_OF(0));
    arp(0);
    wait_for(msix_pending(ENTRY_OF(0)));
    check(taken(ENTRY_OF(0)) == before);
    check(!msix_pending(ENTRY_OF(2)));
    msix_mask(ENTRY_OF(0), 0);
    wait_for(taken(ENTRY_OF(0)) > before);
    check(!msix_pending(ENTRY_OF(0)));
    check(taken(ENTRY_OF(0)) == before + 1);
  }
  report("unmasked", 5);
}

static void exchange_on_pair1(void) { arp(1); }

/* The same for all entries at once, by Function Mask. */
static void function_mask(void) {
  start();
  for (int n = 0; n < 5; n++) {
    msix_control(MSIX_ENABLE | MSIX_FUNCTION_MASK);
    all_settle();
    uint32_t before[] = {taken(ENTRY_OF(0)), taken(ENTRY_OF(2))};
    begin_on_second(exchange_on_pair1);
    arp(0);
    end_on_second();
    wait_for(msix_pending(ENTRY_OF(0)) && msix_pending(ENTRY_OF(2)));
    check(taken(ENTRY_OF(0)) == before[0] && taken(ENTRY_OF(2)) == before[1]);
    msix_control(MSIX_ENABLE);
    wait_for(taken(ENTRY_OF(0)) == before[0] + 1 && taken(ENTRY_OF(2)) == before[1] + 1);
  }
  report("unmasked", 5);
}

static volatile int second_stops;
static volatile uint32_t second_rounds;

static void exchanges_until_told(void) {
  for (second_rounds = 0; !second_stops; second_rounds++) arp_by_interrupt(1, ENTRY_OF(2), SPARE);
}

/* An entry's message changes while its queue works: to another vector and vCPU, and back. No interrupt is lost. */
static void remap(void) {
  start();
  second_stops = 0;
  begin_on_second(exchanges_until_told);
  uint32_t before = taken(ENTRY_OF(2));
  wait_for(taken(ENTRY_OF(2)) > before);
  for (int n = 0; n < 10; n++) {
    int vector = n & 1 ? ENTRY_OF(2) : SPARE;
    int cpu = n >> 1 & 1;
    /* §6.8.3.5: an entry is masked while it changes; every other time it isn't, and the address is whole all the while. */
    if (n % 3) msix_mask(ENTRY_OF(2), 1);
    msix_set(ENTRY_OF(2), vector, cpu, 0);
    before = interrupts[cpu][vector];
    wait_for(interrupts[cpu][vector] > before + 2);
  }
  second_stops = 1;
  end_on_second();
  check(interrupts[0][SPARE] && interrupts[1][SPARE] && interrupts[0][ENTRY_OF(2)] && interrupts[1][ENTRY_OF(2)]);
  report("moves", 10);
  report("exchanges", second_rounds);
}

/* The BAR goes elsewhere while the queues run, and all that lies in it with it. */
static void move_bar(void) {
  start();
  uint64_t home = card.bar;
  for (int n = 1; n <= 10; n++) {
    volatile uint16_t *old_bell = queues[1].bell;
    uint64_t to = n % 5 == 4 ? home : 0xd0000000u + 0x100000u * n;
    pci_move_bar(card.slot, to);
    card_moved();
    check(card.bar == to && common8(DEVICE_STATUS) == 15);
    begin_on_second(exchange_on_pair1);
    arp_by_interrupt(0, ENTRY_OF(0), ENTRY_OF(0));
    end_on_second();
    /* What lay there before is nothing now. */
    check(*(volatile uint32_t *)old_bell == ~0u);
    uint16_t used = queues[1].used.index;
    arp_ask_quietly(0);
    *old_bell = 1;
    for (int wait = 0; wait < 50; wait++) relax();
    check(queues[1].used.index == used);
    queue_ring(&queues[1]);
    arp_answered(0);
  }
  report("moves", 10);
  report_interrupts();
}

/* A reset with buffers outstanding: then silence, and all begins anew. */
static void reset(void) {
  for (int n = 0; n < 10; n++) {
    start();
    if (n & 1) arp(0);
    for (int asked = 0; asked < n; asked++) arp_ask(asked & 1);
    card_reset();
    all_settle();
    uint16_t used[QUEUES];
    for (int q = 0; q < QUEUES; q++) used[q] = queues[q].used.index;
    uint32_t before = taken(ENTRY_OF(0)) + taken(ENTRY_OF(1)) + taken(ENTRY_OF(2)) + taken(ENTRY_OF(3));
    check(common16(CONFIG_VECTOR) == NO_VECTOR && common16(QUEUE_ENABLE) == 0);
    /* What is offered now is nobody's. */
    arp_ask(0);
    arp_ask(1);
    for (int wait = 0; wait < 200; wait++) relax();
    for (int q = 0; q < QUEUES; q++) check(queues[q].used.index == used[q]);
    check(before == taken(ENTRY_OF(0)) + taken(ENTRY_OF(1)) + taken(ENTRY_OF(2)) + taken(ENTRY_OF(3)));
  }
  start();
  begin_on_second(exchanges_on_pair1);
  arp_by_interrupt(0, ENTRY_OF(0), ENTRY_OF(0));
  end_on_second();
  report("resets", 10);
}

/* RING_RESET (virtio 1.2 §2.6.1): one queue at a time, while the other pair works; it comes back with another size. */
static void ring_reset(void) {
  start();
  second_stops = 0;
  begin_on_second(exchanges_until_told);
  for (int n = 0; n < 10; n++) {
    int number = n & 1;
    arp(0);
    common16(QUEUE_SELECT) = number;
    common16(QUEUE_RESET) = 1;
    wait_for(common16(QUEUE_RESET) == 0);
    check(common16(QUEUE_ENABLE) == 0 && common16(QUEUE_VECTOR) == NO_VECTOR);
    uint16_t used = queues[number].used.index;
    if (number == 1) {
      queue_send(&queues[1], 60, 1);
      for (int wait = 0; wait < 100; wait++) relax();
      check(queues[1].used.index == used);
    }
    queue_start(number, n & 2 ? ENTRIES : ENTRIES / 2, 1);
    check(common16(QUEUE_SIZE) == (n & 2 ? ENTRIES : ENTRIES / 2) && common8(DEVICE_STATUS) == 15);
    queue_ring(&queues[number]);
    arp(0);
  }
  uint32_t before = second_rounds;
  wait_for(second_rounds > before);
  second_stops = 1;
  end_on_second();
  report("resets", 10);
  report("exchanges", second_rounds);
}

/* VQ_PAIRS_SET (§5.1.6.5.6): a connection of pair 1 goes on by pair 0 alone, and by both again. */
static void pairs(void) {
  start();
  struct connection c;
  check(tcp_open(&c, 1, 5000, PORT));
  c.anywhere = 1;
  for (int n = 0; n < 4; n++) {
    tcp_echo(&c, 3);
    c.pair = n & 1;
    check(set_pairs(1 + c.pair) == 0);
    if (c.pair == 0) {
      uint16_t used = queues[2].used.index;
      tcp_echo(&c, 3);
      check(queues[2].used.index == used);
    }
  }
  tcp_echo(&c, 20);
  check(set_pairs(0) == 1 && set_pairs(3) == 1 && set_pairs(0x8001) == 1);
  tcp_close(&c);
  report("changes", 4);
}

/* A message that no vCPU takes is lost; what comes after it isn't. */
static void nobody(void) {
  start();
  for (int n = 0; n < 3; n++) {
    msix_set(ENTRY_OF(0), ENTRY_OF(0), 0x55, 0);
    arp(0);
    arp(0);
    msix_set(ENTRY_OF(0), ENTRY_OF(0), 0, 0);
    arp_by_interrupt(0, ENTRY_OF(0), ENTRY_OF(0));
  }
  report("lost", 3);
}

/* A queue that breaks the rules: NEEDS_RESET, an interrupt for the configuration, and a reset that heals it (§2.1.2). */
static void needs_reset(void) {
  for (int n = 0; n < 3; n++) {
    start();
    arp(0);
    uint32_t before = taken(CONFIG_ENTRY);
    if (n == 0) queues[1].avail.index += ENTRIES + 1;
    else if (n == 1) queues[1].avail.ring[queues[1].sent & (ENTRIES - 1)] = ENTRIES, queues[1].avail.index++;
    else queues[3].avail.index -= ENTRIES;
    queue_ring(&queues[n == 2 ? 3 : 1]);
    wait_for(taken(CONFIG_ENTRY) > before);
    check(common8(DEVICE_STATUS) == (15 | STATUS_NEEDS_RESET));
  }
  start();
  on_second(exchange_on_pair1);
  arp(0);
  report("healed", 3);
}

static const uint32_t rubbish_values[] = {~0u, 0, 0x01010101, 0x8000c00f};
#define VALUES ((int)(sizeof rubbish_values / sizeof *rubbish_values))

static void rubbish_in_memory(volatile uint8_t *at, uint32_t value) {
  at[0] = value;
  at[1] = value >> 8;
  *(volatile uint16_t *)(at + 1) = value;
  *(volatile uint16_t *)(at + 2) = value >> 16;
  *(volatile uint32_t *)(at + 3) = value;
  *(volatile uint32_t *)at = value;
  *(volatile uint64_t *)at = value * 0x100000001ull;
  (void)*(volatile uint16_t *)(at + 3);
  (void)*(volatile uint64_t *)(at + 1);
}

static void rubbish_in_config(int slot, int offset, uint32_t value) {
  pci_select(slot, offset);
  for (int n = 0; n < 4; n++) out8(0xcfc + n, value);
  for (int n = 0; n < 3; n++) out16(0xcfc + n, value);
  out32(0xcfc, value);
  in8(0xcff);
  in16(0xcfd);
  in32(0xcfc);
}

/* What is left of the card is enough to begin anew. */
static void begin_anew(void) {
  pci_write32(card.slot, PCI_BAR, 0xc0000000);
  pci_write32(card.slot, PCI_BAR + 4, 0);
  pci_write16(card.slot, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  card_moved();
  enable_interrupts();
  start();
  arp(0);
  on_second(exchange_on_pair1);
}

/* Every register of the BAR, in every width, aligned and not, while the queues run and after that has stopped them. */
static void rubbish_registers(void) {
  static const uint16_t spans[][2] = {{0, 0x40}, {0x1000, 4}, {0x2000, 0x10}, {0x3000, 0x18}, {0x4000, 0x60}, {0x5000, 8}, {0x7ff0, 4}};
  for (int n = 0; n < VALUES; n++) {
    start();
    disable_interrupts();
    for (unsigned span = 0; span < sizeof spans / sizeof *spans; span++)
      for (int at = 0; at < spans[span][1]; at += 4) rubbish_in_memory((volatile uint8_t *)card.bar + spans[span][0] + at, rubbish_values[n]);
    begin_anew();
  }
  report("survived", VALUES);
}

/* The same for the configuration space of the card, of the bridge and of nothing, for the ports, and for memory where nothing is. */
static void rubbish_config(void) {
  for (int n = 0; n < VALUES; n++) {
    uint32_t value = rubbish_values[n];
    start();
    disable_interrupts();
    for (int offset = 0; offset < 256; offset += 4) rubbish_in_config(card.slot, offset, value);
    for (int slot = 0; slot < 32; slot += 31) rubbish_in_config(slot, n * 4, value);
    rubbish_in_memory((volatile uint8_t *)0xd0000000, value);
    for (int port = 0xcf8; port < 0xd00; port++) {
      /* At 0xcf9 is the reset register, which does as it is told. */
      if (port != 0xcf9) out8(port, value);
      if (port > 0xcf9) out16(port, value);
    }
    begin_anew();
  }
  report("survived", VALUES);
}

/* -- the command line ---------------------------------------------------------------------------------------------- */

static const struct { const char *name; void (*run)(void); } scenarios[] = {
  {"traffic", traffic}, {"line", line}, {"mask", mask}, {"functionMask", function_mask}, {"remap", remap}, {"moveBar", move_bar},
  {"reset", reset}, {"ringReset", ring_reset}, {"pairs", pairs}, {"nobody", nobody}, {"needsReset", needs_reset},
  {"rubbishRegisters", rubbish_registers}, {"rubbishConfig", rubbish_config},
};

/* `NAME NUMBER…`. */
static int named(const char *line, const char *name) {
  for (; *name; line++, name++) if (*line != *name) return 0;
  if (*line && *line != ' ') return 0;
  for (int n = -1; *line; line++) {
    if (*line == ' ') n++;
    else parameters[n] = parameters[n] * 10 + *line - '0';
  }
  return 1;
}

void main(void) {
  load_interrupt_table();
  enable_interrupts();
  start_second();
  card_find();
  wait_for(second_up);
  for (unsigned n = 0; n < sizeof scenarios / sizeof *scenarios; n++) {
    if (!named((const char *)0x20000, scenarios[n].name)) continue;
    scenarios[n].run();
    print("done\n");
    power_off();
  }
  fail("no such scenario");
}
