/* The virtio network card: its structures (virtio 1.2 §4.1.4), MSI-X, queues. */
#pragma once
#include "pci.h"

/* Offsets in the common configuration. */
#define DEVICE_FEATURE_SELECT 0x00
#define DEVICE_FEATURE 0x04
#define DRIVER_FEATURE_SELECT 0x08
#define DRIVER_FEATURE 0x0c
#define CONFIG_VECTOR 0x10
#define NUM_QUEUES 0x12
#define DEVICE_STATUS 0x14
#define QUEUE_SELECT 0x16
#define QUEUE_SIZE 0x18
#define QUEUE_VECTOR 0x1a
#define QUEUE_ENABLE 0x1c
#define QUEUE_NOTIFY_OFF 0x1e
#define QUEUE_DESC 0x20
#define QUEUE_DRIVER 0x28
#define QUEUE_DEVICE 0x30
#define QUEUE_RESET 0x3a

#define STATUS_DRIVER_OK 4
#define STATUS_FEATURES_OK 8
#define STATUS_NEEDS_RESET 64

#define CONTROL 4
#define QUEUES 5
#define ENTRIES 16
/* At least 1526 bytes without MRG_RXBUF (§5.1.6.3.1). */
#define BUFFER 2048
#define NO_VECTOR 0xffff

struct card {
  int slot;
  uint64_t bar;
  volatile uint8_t *common, *isr, *config, *notify;
  uint32_t multiplier;
  uint8_t mac[6];
  /* Offset of the capability; the table and the pending bits. */
  int msix;
  volatile uint32_t *table;
  volatile uint32_t *pending;
};

struct descriptor { uint64_t address; uint32_t length; uint16_t flags, next; };
#define DESC_NEXT 1
#define DESC_WRITE 2
struct used_element { uint32_t id, length; };

struct queue {
  volatile struct descriptor desc[ENTRIES] __attribute__((aligned(16)));
  volatile struct { uint16_t flags, index, ring[ENTRIES], event; } avail __attribute__((aligned(4)));
  volatile struct { uint16_t flags, index; struct used_element ring[ENTRIES]; uint16_t event; } used __attribute__((aligned(4)));
  volatile uint8_t buffers[ENTRIES][BUFFER] __attribute__((aligned(8)));
  volatile uint16_t *bell;
  uint16_t number, size, sent, seen;
};

extern struct card card;
extern struct queue queues[QUEUES];

#define common8(offset) (*(volatile uint8_t *)(card.common + (offset)))
#define common16(offset) (*(volatile uint16_t *)(card.common + (offset)))
#define common32(offset) (*(volatile uint32_t *)(card.common + (offset)))

/* Finds the card and its structures. */
void card_find(void);
/* Where the structures lie once the BAR has moved. */
void card_moved(void);
/* Status 0 written and read back. */
void card_reset(void);
/* Reset, features, vectors, queues (of ENTRIES), receive buffers, DRIVER_OK. Without MSI-X: by INTx. */
void card_start(int with_msix);
/* Describes and enables a queue of the card; vector = number + 1. Receive queues get their buffers. */
void queue_start(int number, uint16_t size, int with_msix);
/* Message of a table entry: interrupt FIRST_VECTOR + `vector` of vCPU `cpu`; `masked` as in Vector Control. */
void msix_set(int entry, int vector, int cpu, int masked);
void msix_mask(int entry, int masked);
int msix_pending(int entry);
/* Enable and Function Mask of Message Control. */
#define MSIX_ENABLE 0x8000
#define MSIX_FUNCTION_MASK 0x4000
void msix_control(uint16_t bits);

/* The next free buffer of a transmit queue, to be filled and sent. Fails when there is none for long. */
volatile uint8_t *queue_buffer(struct queue *queue);
/* Sends the buffer that `queue_buffer` named, and rings the doorbell unless told not to. */
void queue_send(struct queue *queue, uint32_t length, int ring);
static inline void queue_ring(struct queue *queue) { barrier(); *queue->bell = queue->number; }
static inline int queue_has_used(struct queue *queue) { return queue->used.index != queue->seen; }
/* Takes what was used of a receive queue: the buffer; its length goes to `*length`. */
volatile uint8_t *queue_take(struct queue *queue, uint32_t *length);
/* Gives the buffer taken last back to the device. */
void queue_return(struct queue *queue, volatile uint8_t *buffer);
/* VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET; the ack. */
uint8_t set_pairs(uint16_t pairs);
