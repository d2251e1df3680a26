#include "card.h"

struct card card;
struct queue queues[QUEUES];
static int places[6];

enum { CFG_COMMON = 1, CFG_NOTIFY, CFG_ISR, CFG_DEVICE };
/* STATUS, CTRL_VQ, MQ, MAC; VERSION_1, RING_RESET. */
#define FEATURES_LOW (1 << 5 | 1 << 16 | 1 << 17 | 1 << 22)
#define FEATURES_HIGH (1 << 0 | 1 << 8)

void card_find(void) {
  card.slot = pci_find(0x1af4, 0x1041);
  check(card.slot > 0);
  for (int at = pci_read8(card.slot, 0x34); at; at = pci_read8(card.slot, at + 1)) {
    uint8_t id = pci_read8(card.slot, at);
    if (id == 0x11) card.msix = at;
    if (id != 0x09) continue;
    uint8_t type = pci_read8(card.slot, at + 3);
    if (type > CFG_DEVICE) continue;
    check(pci_read8(card.slot, at + 4) == 0);
    places[type] = pci_read32(card.slot, at + 8);
    if (type == CFG_NOTIFY) card.multiplier = pci_read32(card.slot, at + 16);
  }
  check(card.msix);
  pci_write16(card.slot, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  card_moved();
  for (int n = 0; n < 6; n++) card.mac[n] = card.config[n];
}

void card_moved(void) {
  card.bar = pci_bar(card.slot);
  volatile uint8_t *bar = (volatile uint8_t *)card.bar;
  card.common = bar + places[CFG_COMMON];
  card.notify = bar + places[CFG_NOTIFY];
  card.isr = bar + places[CFG_ISR];
  card.config = bar + places[CFG_DEVICE];
  card.table = (volatile uint32_t *)(bar + (pci_read32(card.slot, card.msix + 4) & ~7u));
  card.pending = (volatile uint32_t *)(bar + (pci_read32(card.slot, card.msix + 8) & ~7u));
  for (int n = 0; n < QUEUES; n++)
    if (queues[n].bell) queues[n].bell = (volatile uint16_t *)(card.notify + card.multiplier * n);
}

void card_reset(void) {
  common8(DEVICE_STATUS) = 0;
  wait_for(common8(DEVICE_STATUS) == 0);
}

static void negotiate(void) {
  common8(DEVICE_STATUS) = 1;
  common8(DEVICE_STATUS) = 3;
  const uint32_t wanted[] = {FEATURES_LOW, FEATURES_HIGH};
  for (int word = 0; word < 2; word++) {
    common32(DEVICE_FEATURE_SELECT) = word;
    check((common32(DEVICE_FEATURE) & wanted[word]) == wanted[word]);
    common32(DRIVER_FEATURE_SELECT) = word;
    common32(DRIVER_FEATURE) = wanted[word];
  }
  common8(DEVICE_STATUS) = 11;
  check(common8(DEVICE_STATUS) == 11);
}

void card_start(int with_msix) {
  card_reset();
  negotiate();
  check(common16(NUM_QUEUES) == QUEUES);
  msix_control(with_msix ? MSIX_ENABLE : 0);
  if (with_msix) {
    /* Pair 1's interrupts go to vCPU 1. */
    for (int entry = 0; entry <= QUEUES; entry++) msix_set(entry, entry, entry == 3 || entry == 4, 0);
    common16(CONFIG_VECTOR) = 0;
    check(common16(CONFIG_VECTOR) == 0);
  }
  for (int n = 0; n < QUEUES; n++) queue_start(n, ENTRIES, with_msix);
  common8(DEVICE_STATUS) = 15;
  queue_ring(&queues[0]);
  queue_ring(&queues[2]);
}

static void set_address(int offset, volatile void *address) {
  common32(offset) = (uint32_t)(uint64_t)address;
  common32(offset + 4) = (uint64_t)address >> 32;
}

void queue_start(int number, uint16_t size, int with_msix) {
  struct queue *queue = &queues[number];
  common16(QUEUE_SELECT) = number;
  check(common16(QUEUE_SIZE) >= ENTRIES && common16(QUEUE_ENABLE) == 0);
  common16(QUEUE_SIZE) = size;
  queue->number = number;
  queue->size = size;
  queue->sent = queue->seen = 0;
  queue->avail.flags = queue->avail.index = queue->used.flags = queue->used.index = 0;
  if (with_msix) {
    common16(QUEUE_VECTOR) = number + 1;
    check(common16(QUEUE_VECTOR) == number + 1);
  }
  set_address(QUEUE_DESC, queue->desc);
  set_address(QUEUE_DRIVER, &queue->avail);
  set_address(QUEUE_DEVICE, &queue->used);
  queue->bell = (volatile uint16_t *)(card.notify + card.multiplier * common16(QUEUE_NOTIFY_OFF));
  for (int n = 0; n < size; n++) {
    queue->desc[n].address = (uint64_t)queue->buffers[n];
    queue->desc[n].length = BUFFER;
    queue->desc[n].flags = number == 0 || number == 2 ? DESC_WRITE : 0;
    queue->avail.ring[n] = n;
  }
  if (number == 0 || number == 2) queue->avail.index = queue->sent = size;
  common16(QUEUE_ENABLE) = 1;
}

void msix_set(int entry, int vector, int cpu, int masked) {
  card.table[4 * entry] = 0xfee00000u | (uint32_t)cpu << 12;
  card.table[4 * entry + 1] = 0;
  card.table[4 * entry + 2] = FIRST_VECTOR + vector;
  card.table[4 * entry + 3] = masked;
}

void msix_mask(int entry, int masked) { card.table[4 * entry + 3] = masked; }

int msix_pending(int entry) { return card.pending[0] >> entry & 1; }

void msix_control(uint16_t bits) { pci_write16(card.slot, card.msix + 2, bits); }

volatile uint8_t *queue_buffer(struct queue *queue) {
  wait_for((uint16_t)(queue->sent - queue->used.index) < queue->size);
  queue->seen = queue->used.index;
  return queue->buffers[queue->sent & (queue->size - 1)];
}

void queue_send(struct queue *queue, uint32_t length, int ring) {
  int at = queue->sent & (queue->size - 1);
  queue->desc[at].length = length;
  queue->avail.ring[at] = at;
  barrier();
  queue->avail.index = ++queue->sent;
  if (ring) queue_ring(queue);
}

volatile uint8_t *queue_take(struct queue *queue, uint32_t *length) {
  wait_for(queue_has_used(queue));
  struct used_element element = *(struct used_element *)&queue->used.ring[queue->seen++ & (queue->size - 1)];
  *length = element.length;
  return queue->buffers[element.id];
}

void queue_return(struct queue *queue, volatile uint8_t *buffer) {
  queue->avail.ring[queue->sent & (queue->size - 1)] = (buffer - queue->buffers[0]) / BUFFER;
  barrier();
  queue->avail.index = ++queue->sent;
}

uint8_t set_pairs(uint16_t pairs) {
  struct queue *queue = &queues[CONTROL];
  volatile uint8_t *bytes = queue->buffers[0];
  bytes[0] = 4;
  bytes[1] = 0;
  bytes[2] = pairs;
  bytes[3] = pairs >> 8;
  bytes[4] = 0xee;
  queue->desc[0] = (struct descriptor){(uint64_t)bytes, 4, DESC_NEXT, 1};
  queue->desc[1] = (struct descriptor){(uint64_t)bytes + 4, 1, DESC_WRITE, 0};
  queue->avail.ring[queue->sent & (queue->size - 1)] = 0;
  barrier();
  queue->avail.index = ++queue->sent;
  queue_ring(queue);
  uint32_t length;
  queue_take(queue, &length);
  return bytes[4];
}
