/** The other end of the driver's TCP connections, for tests: the services of bench/native/serve.c in a few lines, with go-back-N. */
import { PATTERN_LENGTH, fillPattern } from '../../../bench/driver/pattern.js';

export interface Segment {
  readonly localPort: number;
  readonly remotePort: number;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly flags: number;
  readonly window: number;
  readonly payload: Uint8Array;
  readonly mss?: number;
}

const FIN = 1;
const SYN = 2;
const RST = 4;
const ACK = 16;
const RETRANSMIT_MS = 15;
/** That of the driver's windows, bench/driver/frameWriter.ts. */
const GUEST_WINDOW_SHIFT = 8;
const WINDOW_SHIFT = 4;
const WINDOW = 0xffff << WINDOW_SHIFT;

const pattern = new Uint8Array(2 * PATTERN_LENGTH);
fillPattern(pattern);

type Service = 'echo' | 'source' | 'check' | 'sink';

class Connection {
  rcvNxt: number;
  una = 0;
  nxt = 0;
  established = false;
  peerWindow = 0;
  finReceived = false;
  finSent = false;
  ackDue = false;
  lastProgress = Date.now();
  dupAcks = 0;
  received = 0;
  wrong = 0;
  reply: Uint8Array = new Uint8Array(0);
  readonly iss = 0xffff_f000 | 0;
  readonly mss: number;

  /** @param syn the segment that opened the connection */
  constructor(
    readonly service: Service,
    readonly syn: Segment,
  ) {
    this.rcvNxt = (syn.sequence + 1) | 0;
    this.mss = syn.mss ?? 536;
  }

  /** Bytes that there are to send so far. */
  get end(): number {
    return this.service === 'source' ? Infinity : this.reply.length;
  }

  bytes(position: number, length: number): Uint8Array {
    if (this.service !== 'source') return this.reply.subarray(position, position + length);
    const at = position % PATTERN_LENGTH;
    return pattern.subarray(at, at + length);
  }

  take(payload: Uint8Array): void {
    if (this.service === 'echo') this.reply = Buffer.concat([this.reply, payload]);
    if (this.service === 'check') {
      const at = this.received % PATTERN_LENGTH;
      if (Buffer.compare(payload, pattern.subarray(at, at + payload.length)) !== 0) this.wrong++;
    }
    this.received += payload.length;
  }

  finished(): void {
    if (this.service === 'check') {
      this.reply = new Uint8Array(BigUint64Array.of(BigInt(this.received), BigInt(this.wrong)).buffer);
    }
  }
}

export class PeerTcp {
  readonly connections = new Map<number, Connection>();
  opened = 0;
  /** Bytes: the largest receive window that the guest announced, SYNs' included. */
  largestWindow = 0;

  /**
   * @param service what listens on a port: a service, `refuse` or `silent`
   * @param send takes a segment to the guest
   * @param largest bytes of payload that a segment may have; more than the MSS with GUEST_TSO4
   */
  constructor(
    private readonly service: (port: number) => Service | 'refuse' | 'silent',
    private readonly send: (segment: Segment) => void,
    private readonly largest: (mss: number) => number,
  ) {}

  /** By connection: bytes that the guest has acknowledged. */
  acknowledgedBytes(): number[] {
    return [...this.connections.values()].map(({ una }) => una);
  }

  input(segment: Segment): void {
    const key = segment.localPort * 65_536 + segment.remotePort;
    const shift = segment.flags & SYN ? 0 : GUEST_WINDOW_SHIFT;
    this.largestWindow = Math.max(this.largestWindow, segment.window << shift);
    const connection = this.connections.get(key);
    if (segment.flags & RST) {
      this.connections.delete(key);
    } else if (segment.flags & SYN) {
      this.synReceived(key, segment, connection);
    } else if (connection === undefined) {
      this.send({ ...this.reply(segment), flags: RST, sequence: segment.acknowledgement });
    } else {
      this.segmentReceived(key, connection, segment);
    }
  }

  private synReceived(key: number, segment: Segment, known: Connection | undefined): void {
    const service = this.service(segment.remotePort);
    if (service === 'silent') return;
    if (service === 'refuse') {
      const acknowledgement = (segment.sequence + 1) | 0;
      this.send({ ...this.reply(segment), flags: RST | ACK, sequence: 0, acknowledgement });
      return;
    }
    const connection = known ?? new Connection(service, segment);
    if (known === undefined) this.opened++;
    this.connections.set(key, connection);
    this.acceptConnection(connection);
  }

  private acceptConnection({ iss, rcvNxt, mss, syn }: Connection): void {
    this.send({ ...this.reply(syn), flags: SYN | ACK, sequence: iss, acknowledgement: rcvNxt, mss });
  }

  private segmentReceived(key: number, connection: Connection, segment: Segment): void {
    connection.established = true;
    const acked = (segment.acknowledgement - ((connection.iss + 1 + connection.una) | 0)) | 0;
    if (acked > 0) {
      connection.una += acked;
      connection.nxt = Math.max(connection.nxt, connection.una);
      connection.lastProgress = Date.now();
      connection.dupAcks = 0;
    } else if (acked === 0 && segment.payload.length === 0 && connection.nxt > connection.una) {
      if (++connection.dupAcks === 3) this.goBack(connection);
    }
    connection.peerWindow = segment.window << GUEST_WINDOW_SHIFT;
    const ahead = (segment.sequence - connection.rcvNxt) | 0;
    if (segment.payload.length > 0 || segment.flags & FIN) connection.ackDue = true;
    if (ahead <= 0 && -ahead <= segment.payload.length) {
      const fresh = segment.payload.subarray(-ahead);
      connection.take(fresh);
      connection.rcvNxt = (connection.rcvNxt + fresh.length) | 0;
      if (segment.flags & FIN && !connection.finReceived) {
        connection.finReceived = true;
        connection.rcvNxt = (connection.rcvNxt + 1) | 0;
        connection.finished();
      }
    } else if (ahead > 0) {
      this.output(key, connection, true);
    }
  }

  /** Sends what is due on all connections. */
  step(): void {
    for (const [key, connection] of this.connections) {
      const late = Date.now() - connection.lastProgress > RETRANSMIT_MS;
      if (!connection.established) {
        // RFC 9293 §3.8.1: the SYN-ACK too; its acknowledgement may be lost, and nothing else need ever follow that.
        if (late) {
          this.acceptConnection(connection);
          connection.lastProgress = Date.now();
        }
        continue;
      }
      if (connection.nxt > connection.una && late) this.goBack(connection);
      this.output(key, connection, false);
      if (connection.finSent && connection.una > connection.end) this.connections.delete(key);
    }
  }

  private goBack(connection: Connection): void {
    connection.nxt = connection.una;
    connection.finSent = false;
    connection.dupAcks = 0;
    connection.lastProgress = Date.now();
  }

  private output(key: number, connection: Connection, ackOnly: boolean): void {
    const base = {
      localPort: key % 65_536,
      remotePort: Math.floor(key / 65_536),
      window: WINDOW >> WINDOW_SHIFT,
      flags: ACK,
      payload: new Uint8Array(0),
    };
    const emit = (part: Partial<Segment>): void => {
      const sequence = (connection.iss + 1 + connection.nxt) | 0;
      this.send({ ...base, sequence, acknowledgement: connection.rcvNxt, ...part });
      connection.ackDue = false;
    };
    const { mss } = connection;
    const budget = ackOnly ? 0 : 8;
    for (let n = 0; n < budget && connection.nxt < connection.end; n++) {
      const room = Math.min(connection.una + connection.peerWindow, connection.end) - connection.nxt;
      const length = Math.min(room, this.largest(mss), PATTERN_LENGTH);
      if (length <= 0) break;
      emit({ payload: connection.bytes(connection.nxt, length), mss });
      connection.nxt += length;
    }
    if (!ackOnly && connection.finReceived && !connection.finSent && connection.nxt === connection.end) {
      emit({ flags: FIN | ACK });
      connection.finSent = true;
      connection.nxt++;
    }
    if (connection.ackDue || ackOnly) emit({});
  }

  private reply(segment: Segment): Segment {
    return {
      localPort: segment.remotePort,
      remotePort: segment.localPort,
      sequence: 0,
      acknowledgement: 0,
      flags: ACK,
      window: 0xffff,
      payload: new Uint8Array(0),
    };
  }
}
