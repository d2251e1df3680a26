#include "pci.h"

int pci_find(uint16_t vendor, uint16_t device) {
  for (int slot = 0; slot < 32; slot++)
    if (pci_read32(slot, 0) == ((uint32_t)device << 16 | vendor)) return slot;
  return -1;
}

uint64_t pci_bar(int slot) {
  return (uint64_t)pci_read32(slot, PCI_BAR + 4) << 32 | (pci_read32(slot, PCI_BAR) & ~0xfu);
}

/* §6.2.5.1: all ones are written, and the bits that stay zero tell the size. */
uint32_t pci_bar_size(int slot) {
  uint16_t command = pci_read16(slot, PCI_COMMAND);
  uint32_t low = pci_read32(slot, PCI_BAR);
  pci_write16(slot, PCI_COMMAND, command & ~PCI_COMMAND_MEMORY);
  pci_write32(slot, PCI_BAR, ~0u);
  uint32_t size = -(pci_read32(slot, PCI_BAR) & ~0xfu);
  pci_write32(slot, PCI_BAR, low);
  pci_write16(slot, PCI_COMMAND, command);
  return size;
}

void pci_move_bar(int slot, uint64_t address) {
  uint16_t command = pci_read16(slot, PCI_COMMAND);
  pci_write16(slot, PCI_COMMAND, command & ~PCI_COMMAND_MEMORY);
  pci_write32(slot, PCI_BAR, address);
  pci_write32(slot, PCI_BAR + 4, address >> 32);
  pci_write16(slot, PCI_COMMAND, command);
}

int acpi_has_ecam(void) {
  const uint8_t *pointer = *(const uint8_t **)(0x7000 + 0x70);
  const uint8_t *xsdt = *(const uint8_t **)(pointer + 24);
  uint32_t length = *(const uint32_t *)(xsdt + 4);
  for (uint32_t at = 36; at < length; at += 8) {
    uint64_t table;
    __builtin_memcpy(&table, xsdt + at, 8);
    if (*(const uint32_t *)table == 0x4746434d) return 1;
  }
  return 0;
}
