/** `struct virtio_pci_common_cfg` (virtio 1.2 §4.1.4.3), as registers over a device's life. */
import type { VirtioInterrupts } from './interrupts.js';
import { NO_VECTOR } from './interrupts.js';
import type { Lifecycle } from './lifecycle.js';
import type { VirtioModel } from '../model.js';
import type { QueueRegisters } from './queueRegisters.js';
import { type Register, RegisterBlock } from './registers.js';

/** Bytes, up to queue_reset. */
export const COMMON_CONFIG_SIZE = 0x3c;

/** A queue that there isn't: reads as nothing, takes nothing. */
type SelectedQueue = QueueRegisters | undefined;

export function commonConfig(life: Lifecycle, interrupts: VirtioInterrupts, model: VirtioModel): RegisterBlock {
  let deviceWord = 0;
  let driverWord = 0;
  let selected = 0;
  const queue = (): SelectedQueue => life.queue(selected);

  /** A part's address: two registers, for "the driver MUST access each […] as two 32-bit" (§4.1.3.1); fixed once the queue is enabled. */
  const address = (offset: number, part: 'desc' | 'driver' | 'device'): Register[] =>
    [0, 1].map((half) => ({
      offset: offset + 4 * half,
      size: 4,
      read: () => queue()?.[part][half] ?? 0,
      write: (value) => {
        const target = queue();
        if (target !== undefined && !target.enabled) target[part][half] = value;
      },
    }));

  return new RegisterBlock([
    { offset: 0x00, size: 4, read: () => deviceWord, write: (value) => void (deviceWord = value) },
    { offset: 0x04, size: 4, read: () => wordOf(model.features, deviceWord) },
    { offset: 0x08, size: 4, read: () => driverWord, write: (value) => void (driverWord = value) },
    {
      offset: 0x0c,
      size: 4,
      read: () => wordOf(life.driverFeatures, driverWord),
      write: (value) => life.setDriverFeatures(driverWord, value),
    },
    {
      offset: 0x10,
      size: 2,
      read: () => interrupts.configVector,
      write: (value) => void (interrupts.configVector = value),
    },
    { offset: 0x12, size: 2, read: () => life.queues.length },
    { offset: 0x14, size: 1, read: () => life.deviceStatus, write: (value) => life.setStatus(value) },
    { offset: 0x15, size: 1, read: () => model.generation & 0xff },
    { offset: 0x16, size: 2, read: () => selected, write: (value) => void (selected = value) },
    { offset: 0x18, size: 2, read: () => queue()?.size ?? 0, write: (value) => queue()?.setSize(value) },
    {
      offset: 0x1a,
      size: 2,
      read: () => queue()?.vector ?? NO_VECTOR,
      write: (value) => {
        const target = queue();
        if (target === undefined) return;
        target.vector = interrupts.mapped(value);
        return life.settle();
      },
    },
    {
      offset: 0x1c,
      size: 2,
      read: () => (queue()?.enabled === true ? 1 : 0),
      // §4.1.4.3.2: "The driver MUST NOT write a 0 to queue_enable."
      write: (value) => {
        const target = queue();
        if (target === undefined || value !== 1) return;
        target.enabled = true;
        return life.settle();
      },
    },
    { offset: 0x1e, size: 2, read: () => Math.max(0, life.placeOf(selected)) },
    ...address(0x20, 'desc'),
    ...address(0x28, 'driver'),
    ...address(0x30, 'device'),
    // queue_notify_data at 0x38 is for NOTIF_CONFIG_DATA, which is not offered.
    {
      offset: 0x3a,
      size: 2,
      read: () => (queue()?.resetting === true ? 1 : 0),
      write: (value) => {
        const target = queue();
        if (target !== undefined && value === 1) return life.resetQueue(target);
      },
    },
  ]);
}

/** 32 bits of a 64-bit mask; words beyond it are 0 (§4.1.4.3.1). */
function wordOf(mask: bigint, word: number): number {
  return word > 1 ? 0 : Number((mask >> BigInt(32 * word)) & 0xffff_ffffn);
}
