/** The vendor-specific capabilities of a virtio PCI function (virtio 1.2 §4.1.4): which structure lies where in its BAR. */
import type { ConfigSpace } from './configSpace.js';
import { readBytes } from './registers.js';

const CAP_ID_VENDOR = 0x09;
const CFG_COMMON = 1;
const CFG_NOTIFY = 2;
const CFG_ISR = 3;
const CFG_DEVICE = 4;
const CFG_PCI = 5;

/** Offsets in `struct virtio_pci_cap`. */
const CAP_BAR = 4;
const CAP_OFFSET = 8;
const CAP_LENGTH = 12;
const CAP_DATA = 16;

/** §4.1.4.4: each queue has an address of its own, so that each can have a doorbell of its own. */
export const NOTIFY_MULTIPLIER = 4;

/** A structure's place in the BAR. */
export interface Place {
  readonly offset: number;
  readonly length: number;
}

export interface VirtioPlaces {
  readonly bar: number;
  readonly common: Place;
  readonly isr: Place;
  readonly device: Place;
  readonly notify: Place;
}

/** Adds all capabilities. Returns the offset of the one for access through configuration space (§4.1.4.9). */
export function addVirtioCapabilities(config: ConfigSpace, places: VirtioPlaces): number {
  const { bar } = places;
  const multiplier = Uint8Array.of(NOTIFY_MULTIPLIER, 0, 0, 0);
  config.addCapability(CAP_ID_VENDOR, body(CFG_COMMON, bar, places.common));
  config.addCapability(CAP_ID_VENDOR, body(CFG_NOTIFY, bar, places.notify, multiplier));
  config.addCapability(CAP_ID_VENDOR, body(CFG_ISR, bar, places.isr));
  config.addCapability(CAP_ID_VENDOR, body(CFG_DEVICE, bar, places.device));
  const access = body(CFG_PCI, 0, { offset: 0, length: 0 }, new Uint8Array(4));
  const writable = new Uint8Array(access.length);
  writable[CAP_BAR - 2] = 0xff;
  writable.fill(0xff, CAP_OFFSET - 2);
  return config.addCapability(CAP_ID_VENDOR, access, writable);
}

/** What follows the capability's first two bytes. */
function body(type: number, bar: number, { offset, length }: Place, rest: Uint8Array = new Uint8Array(0)): Uint8Array {
  const bytes = new Uint8Array(14 + rest.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = bytes.length + 2;
  bytes[1] = type;
  bytes[CAP_BAR - 2] = bar;
  view.setUint32(CAP_OFFSET - 2, offset, true);
  view.setUint32(CAP_LENGTH - 2, length, true);
  bytes.set(rest, CAP_DATA - 2);
  return bytes;
}

/** Where in a BAR the driver wants to read or write by way of configuration space. */
export interface BarAccess {
  readonly bar: number;
  readonly offset: number;
  readonly length: 1 | 2 | 4;
}

/** The configuration access capability: a window of 4 bytes through which a driver reaches the BAR (§4.1.4.9). */
export class ConfigAccess {
  constructor(
    private readonly config: ConfigSpace,
    /** Where the capability lies. */
    private readonly at: number,
  ) {}

  /** Whether an access to configuration space touches pci_cfg_data. */
  touches(offset: number, length: number): boolean {
    return offset < this.at + CAP_DATA + 4 && offset + length > this.at + CAP_DATA;
  }

  /** The access to make now; `undefined` if the driver asks for none that can be (§4.1.4.9.2: 1, 2 or 4 bytes, aligned). */
  get access(): BarAccess | undefined {
    const offset = this.config.read(this.at + CAP_OFFSET, 4);
    const length = this.config.read(this.at + CAP_LENGTH, 4);
    if ((length !== 1 && length !== 2 && length !== 4) || offset % length !== 0) return undefined;
    return { bar: this.config.bytes[this.at + CAP_BAR]!, offset, length };
  }

  get data(): number {
    return readBytes(this.config.bytes, this.at + CAP_DATA, 4);
  }

  set data(value: number) {
    this.config.write(this.at + CAP_DATA, 4, value);
  }
}
