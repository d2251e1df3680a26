/* A PCI bus by configuration mechanism #1 (PCI 3.0 §3.2.2.3.2). */
#pragma once
#include "guest.h"

#define PCI_COMMAND 0x04
#define PCI_BAR 0x10
#define PCI_LINE 0x3c
#define PCI_COMMAND_MEMORY 2
#define PCI_COMMAND_MASTER 4
#define PCI_COMMAND_INTX_OFF 0x400

static inline void pci_select(int slot, int offset) { out32(0xcf8, 0x80000000u | (uint32_t)slot << 11 | (offset & 0xfc)); }
static inline uint8_t pci_read8(int slot, int offset) { pci_select(slot, offset); return in8(0xcfc + (offset & 3)); }
static inline uint16_t pci_read16(int slot, int offset) { pci_select(slot, offset); return in16(0xcfc + (offset & 3)); }
static inline uint32_t pci_read32(int slot, int offset) { pci_select(slot, offset); return in32(0xcfc); }
static inline void pci_write8(int slot, int offset, uint8_t value) { pci_select(slot, offset); out8(0xcfc + (offset & 3), value); }
static inline void pci_write16(int slot, int offset, uint16_t value) { pci_select(slot, offset); out16(0xcfc + (offset & 3), value); }
static inline void pci_write32(int slot, int offset, uint32_t value) { pci_select(slot, offset); out32(0xcfc, value); }

/* The slot of the first function with this vendor and device, or -1. */
int pci_find(uint16_t vendor, uint16_t device);
/* The address of a 64-bit memory BAR 0, its size, and another place for it; memory accesses are off meanwhile. */
uint64_t pci_bar(int slot);
uint32_t pci_bar_size(int slot);
void pci_move_bar(int slot, uint64_t address);
/* Whether ACPI's tables tell of ECAM (an MCFG table). */
int acpi_has_ecam(void);
