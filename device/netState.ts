/**
 * What a virtio-net device's driver has set by the control queue, and what its configuration space shows: words of shared
 * memory, read by every thread.
 *
 * Writers: the thread that serves the control queue while that runs, the front while it doesn't. The status field alone
 * has two (the front announces, the control queue takes it back), by atomic operations.
 */
import {
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
} from './features.js';

/** Odd while a change is under way: seqlock of all the rest, and the configuration's generation in its low bits. */
const GENERATION = 0;
/** Frames that the filter kept from the driver; added to by every worker. */
const FILTERED = 1;
/** What a reset clears begins here: `status` of the configuration space. */
const STATUS = 2;
/** The MAC address: its first four bytes, its last two. */
const MAC = 3;
/** Bits RX_…. */
const RX_MODE = 5;
/** Features that were negotiated, bits 0 … 31 and 32 … 63. */
const FEATURES = 6;
/** Offloads that the driver wants of the device: bits of the features. */
const OFFLOADS = 8;
/** Entries of the MAC table; -1: more than it holds, all are taken. */
const UNICASTS = 9;
const MULTICASTS = 10;
/** Bit n: VLAN n is taken. */
const VLANS = 16;
const VLAN_WORDS = 128;
/** Two words per address: unicast, then multicast. */
const TABLE = VLANS + VLAN_WORDS;
/** Addresses of each kind that the table holds; with more, all of the kind are taken (virtio 1.2 §5.1.6.5.2: "it can use a hash filter or silently switch to allmulti or promiscuous mode if it is given too many addresses"). */
export const MAC_TABLE_ENTRIES = 64;
export const NET_STATE_WORDS = TABLE + 4 * MAC_TABLE_ENTRIES;

export const VIRTIO_NET_S_LINK_UP = 1;
export const VIRTIO_NET_S_ANNOUNCE = 2;

/** Receive modes by number of their CTRL_RX command (virtio 1.2 §5.1.6.5.1). */
const RX_PROMISC = 1 << 0;
const RX_ALLMULTI = 1 << 1;
const RX_ALLUNI = 1 << 2;
const RX_NOMULTI = 1 << 3;
const RX_NOUNI = 1 << 4;
const RX_NOBCAST = 1 << 5;

/** Features that GUEST_OFFLOADS_SET switches: bit numbers are the same (§5.1.6.5.8). */
export const GUEST_OFFLOADS = VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6;

const TYPE_VLAN = 0x8100;

export class NetState {
  /** @param words NET_STATE_WORDS words of shared memory */
  constructor(private readonly words: Int32Array) {}

  /** The state of a device that was reset: its own MAC address, link up, empty tables (§5.1.6.5.2.1), all offloads off. */
  reset(mac: Uint8Array): void {
    this.change(() => {
      this.words.fill(0, STATUS);
      Atomics.store(this.words, STATUS, VIRTIO_NET_S_LINK_UP);
      this.putMac(MAC, mac, 0);
    });
  }

  /** Takes note of what was negotiated; offloads are on from then on. */
  negotiate(features: bigint): void {
    this.change(() => {
      this.words[FEATURES] = Number(BigInt.asIntN(32, features));
      this.words[FEATURES + 1] = Number(BigInt.asIntN(32, features >> 32n));
      this.words[OFFLOADS] = Number(features & GUEST_OFFLOADS);
    });
  }

  get features(): bigint {
    return (BigInt(this.words[FEATURES + 1]! >>> 0) << 32n) | BigInt(this.words[FEATURES]! >>> 0);
  }

  /** Changes whenever anything here does. */
  get generation(): number {
    return Atomics.load(this.words, GENERATION);
  }

  get status(): number {
    return Atomics.load(this.words, STATUS);
  }

  /** Sets (or clears) bits of the status field. */
  setStatus(bits: number, set: boolean): void {
    Atomics.add(this.words, GENERATION, 2);
    if (set) Atomics.or(this.words, STATUS, bits);
    else Atomics.and(this.words, STATUS, ~bits);
    Atomics.add(this.words, GENERATION, 2);
  }

  get mac(): Uint8Array {
    return Uint8Array.from({ length: 6 }, (_, n) => this.words[MAC + (n >> 2)]! >>> (8 * (n & 3)));
  }

  /** @param bytes holds 6 bytes from `offset` */
  setMac(bytes: Uint8Array, offset: number): void {
    this.change(() => this.putMac(MAC, bytes, offset));
  }

  get rxMode(): number {
    return this.words[RX_MODE]!;
  }

  setRxMode(bit: number, on: boolean): void {
    this.change(() => (this.words[RX_MODE] = on ? this.rxMode | bit : this.rxMode & ~bit));
  }

  get offloads(): number {
    return this.words[OFFLOADS]!;
  }

  setOffloads(offloads: number): void {
    this.change(() => (this.words[OFFLOADS] = offloads));
  }

  /** Replaces the MAC table by addresses of 6 bytes each. */
  setMacTable(unicast: Uint8Array, multicast: Uint8Array): void {
    this.change(() => {
      this.words[UNICASTS] = this.putTable(TABLE, unicast);
      this.words[MULTICASTS] = this.putTable(TABLE + 2 * MAC_TABLE_ENTRIES, multicast);
    });
  }

  /** @param vlan 0 … 4095 */
  setVlan(vlan: number, taken: boolean): void {
    const word = VLANS + (vlan >> 5);
    const bit = 1 << (vlan & 31);
    this.change(() => (this.words[word] = taken ? this.words[word]! | bit : this.words[word]! & ~bit));
  }

  hasVlan(vlan: number): boolean {
    return ((this.words[VLANS + (vlan >> 5)]! >>> (vlan & 31)) & 1) === 1;
  }

  /** Frames that the filter kept from the driver. */
  get filtered(): number {
    return Atomics.load(this.words, FILTERED) >>> 0;
  }

  countFiltered(): void {
    Atomics.add(this.words, FILTERED, 1);
  }

  /** Copies all words, as they belong together but for the number of filtered frames. False: a change is under way. */
  copyTo(words: Int32Array): boolean {
    const before = this.generation;
    if ((before & 1) !== 0) return false;
    words.set(this.words);
    return this.generation === before;
  }

  private change(apply: () => void): void {
    Atomics.add(this.words, GENERATION, 1);
    apply();
    Atomics.add(this.words, GENERATION, 1);
  }

  private putTable(at: number, addresses: Uint8Array): number {
    const count = addresses.length / 6;
    if (count > MAC_TABLE_ENTRIES) return -1;
    for (let n = 0; n < count; n++) this.putMac(at + 2 * n, addresses, 6 * n);
    return count;
  }

  private putMac(at: number, bytes: Uint8Array, offset: number): void {
    this.words[at] = macLow(bytes, offset);
    this.words[at + 1] = macHigh(bytes, offset);
  }
}

/**
 * The filter for frames to the driver (virtio 1.2 §5.1.6.5.1 to §5.1.6.5.3), as one thread applies it. A driver that hasn't
 * negotiated CTRL_RX takes every address, one that hasn't CTRL_VLAN every VLAN.
 */
export class ReceiveFilter {
  private readonly seen = new Int32Array(NET_STATE_WORDS);
  /** The generation that `seen` is of. */
  private generation = -1;
  private byAddress = false;
  private byVlan = false;

  constructor(private readonly state: NetState) {}

  /** Whether the driver takes the frame whose Ethernet header lies at `offset`. Counts those it doesn't. */
  accepts(frame: Uint8Array, offset: number): boolean {
    if (this.state.generation !== this.generation) this.refresh();
    if (!this.byAddress && !this.byVlan) return true;
    if (this.takesAddress(frame, offset) && this.takesVlan(frame, offset)) return true;
    this.state.countFiltered();
    return false;
  }

  /** Until a change is complete, the state before it holds. */
  private refresh(): void {
    const generation = this.state.generation;
    if (!this.state.copyTo(this.seen)) return;
    this.generation = generation;
    const features = this.seen[FEATURES]!;
    this.byAddress = (features & Number(VIRTIO_NET_F_CTRL_RX)) !== 0;
    this.byVlan = (features & Number(VIRTIO_NET_F_CTRL_VLAN)) !== 0;
  }

  private takesAddress(frame: Uint8Array, offset: number): boolean {
    const mode = this.seen[RX_MODE]!;
    if (!this.byAddress || (mode & RX_PROMISC) !== 0) return true;
    const low = macLow(frame, offset);
    const high = macHigh(frame, offset);
    if (low === -1 && high === 0xffff) return (mode & RX_NOBCAST) === 0;
    if ((low & 1) !== 0) {
      if ((mode & RX_NOMULTI) !== 0) return false;
      return (mode & RX_ALLMULTI) !== 0 || this.inTable(MULTICASTS, TABLE + 2 * MAC_TABLE_ENTRIES, low, high);
    }
    if ((mode & RX_NOUNI) !== 0) return false;
    if (low === this.seen[MAC] && high === this.seen[MAC + 1]) return true;
    return (mode & RX_ALLUNI) !== 0 || this.inTable(UNICASTS, TABLE, low, high);
  }

  private inTable(countAt: number, at: number, low: number, high: number): boolean {
    const count = this.seen[countAt]!;
    for (let n = 0; n < count; n++) {
      if (this.seen[at + 2 * n] === low && this.seen[at + 2 * n + 1] === high) return true;
    }
    return count < 0;
  }

  /** §5.1.6.5.3: untagged frames are taken in any case. */
  private takesVlan(frame: Uint8Array, offset: number): boolean {
    if (!this.byVlan || (frame[offset + 12]! << 8) + frame[offset + 13]! !== TYPE_VLAN) return true;
    const vlan = ((frame[offset + 14]! & 0x0f) << 8) | frame[offset + 15]!;
    return ((this.seen[VLANS + (vlan >> 5)]! >>> (vlan & 31)) & 1) === 1;
  }
}

function macLow(bytes: Uint8Array, offset: number): number {
  return bytes[offset]! | (bytes[offset + 1]! << 8) | (bytes[offset + 2]! << 16) | (bytes[offset + 3]! << 24);
}

function macHigh(bytes: Uint8Array, offset: number): number {
  return bytes[offset + 4]! | (bytes[offset + 5]! << 8);
}
