/** Finds out what the guest must know of its network: DHCP where wanted (RFC 2131), then the gateway's MAC address (RFC 826). */
import type { FrameReader } from './frameReader.js';
import type { FrameWriter } from './frameWriter.js';
import type { MappedMemory } from './guestMemory.js';
import type { NetworkState } from './network.js';
import type { Packet, QueuePair } from './queuePair.js';
import { clock } from './scratch.js';
import { ETHERNET_HEADER, getU32, swap16 } from './wire.js';

const RETRY_MS = 250;
const ARP_REQUEST = 1;
const ARP_REPLY = 2;
const CLIENT_PORT = 68;
const SERVER_PORT = 67;
const TRANSACTION = 0x536c6970;
const MAGIC = 0x63825363;
const DISCOVER = 1;
const OFFER = 2;
const REQUEST = 3;
const ACKNOWLEDGE = 5;
const OPTIONS_AT = 240;

export class BringUp {
  private asked = false;
  private askedAt = 0;
  /** The lease that was offered, or given. */
  private offer: Map<number, number> | undefined;
  private leased: boolean;

  constructor(
    private readonly memory: MappedMemory,
    private readonly pair: QueuePair,
    private readonly writer: FrameWriter,
    private readonly reader: FrameReader,
    private readonly network: NetworkState,
    dhcp: boolean,
  ) {
    this.leased = !dhcp;
  }

  /** Asks, and asks again, until the network is up. */
  tick(): void {
    if (this.network.up || (this.asked && ((clock[0] - this.askedAt) | 0) < RETRY_MS)) return;
    this.asked = true;
    this.askedAt = clock[0];
    if (!this.leased) this.askForLease();
    else this.writer.arp(this.pair, ARP_REQUEST, 0, 0, 0, this.network.gateway);
    this.pair.flush();
  }

  /** An ARP packet that `reader` has just read. */
  arpInput(): void {
    const { u16 } = this.memory;
    const arp = (this.reader.frame + ETHERNET_HEADER) / 2;
    const operation = swap16(u16[arp + 3]);
    const sender = getU32(u16, arp + 7);
    if (operation === ARP_REPLY && sender === this.network.gateway) {
      this.network.setGatewayMac(u16[arp + 4], u16[arp + 5], u16[arp + 6]);
    } else if (operation === ARP_REQUEST && getU32(u16, arp + 12) === this.network.address) {
      this.writer.arp(this.pair, ARP_REPLY, u16[arp + 4], u16[arp + 5], u16[arp + 6], sender);
      this.pair.flush();
    }
  }

  /** A UDP datagram that `reader` has just read. */
  udpInput(packet: Packet): void {
    const { reader } = this;
    if (this.leased || reader.destinationPort !== CLIENT_PORT || reader.sourcePort !== SERVER_PORT) return;
    const message = new DataView(packet.copy(this.memory.u8, reader.headers, reader.payloadLength).buffer);
    if (message.byteLength < OPTIONS_AT || message.getUint8(0) !== 2 || message.getUint32(4) !== TRANSACTION) return;
    const options = readOptions(message);
    options.set(0, message.getInt32(16));
    const type = options.get(53);
    if (type === OFFER && this.offer === undefined) {
      this.offer = options;
    } else if (type === ACKNOWLEDGE) {
      this.leased = true;
      this.network.setLease({
        address: options.get(0) ?? 0,
        mask: options.get(1) ?? 0,
        gateway: options.get(3) ?? 0,
        dns: options.get(6) ?? 0,
        mtu: options.get(26) ?? 0,
        seconds: options.get(51) ?? 0,
        server: options.get(54) ?? 0,
      });
    }
    this.asked = false;
  }

  private askForLease(): void {
    const { offer } = this;
    const message = new DataView(new ArrayBuffer(OPTIONS_AT + 60));
    // Ethernet, and a broadcast answer: the guest has no address yet.
    message.setUint32(0, 0x01010600);
    message.setUint32(4, TRANSACTION);
    message.setUint16(10, 0x8000);
    for (let n = 0; n < 3; n++) message.setUint16(28 + 2 * n, this.network.macWord(n), true);
    message.setUint32(236, MAGIC);
    // Message type; parameter request list: mask, router, DNS, MTU, lease time
    const options = [53, 1, offer ? REQUEST : DISCOVER, 55, 5, 1, 3, 6, 26, 51];
    if (offer) options.push(50, 4, ...bytesOf(offer.get(0) ?? 0), 54, 4, ...bytesOf(offer.get(54) ?? 0));
    for (const [n, byte] of [...options, 255].entries()) message.setUint8(OPTIONS_AT + n, byte);
    this.writer.udpBroadcast(this.pair, CLIENT_PORT, SERVER_PORT, new Uint8Array(message.buffer));
  }
}

/** The first number in each option (RFC 2132), by the option's code. */
function readOptions(message: DataView): Map<number, number> {
  const options = new Map<number, number>();
  for (let at = OPTIONS_AT; at + 1 < message.byteLength && message.getUint8(at) !== 255;) {
    if (message.getUint8(at) === 0) {
      at++;
      continue;
    }
    const length = message.getUint8(at + 1);
    if (at + 2 + length > message.byteLength) break;
    if (length >= 4) options.set(message.getUint8(at), message.getInt32(at + 2));
    else if (length === 2) options.set(message.getUint8(at), message.getUint16(at + 2));
    else if (length === 1) options.set(message.getUint8(at), message.getUint8(at + 2));
    at += 2 + length;
  }
  return options;
}

function bytesOf(value: number): number[] {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 0xff);
}
