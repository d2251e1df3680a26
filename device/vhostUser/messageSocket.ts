/**
 * One connection as a sequence of whole messages. Reads take no more bytes than the message at hand lacks, so that a
 * descriptor can only belong to that message; nothing waits but the caller's promise, however slowly the bytes come.
 */
import type { Addon, FdWatcher } from '../../src/native/addon.js';
import { errorCode, VhostUserProtocolError } from './errors.js';
import {
  decodeHeader,
  HEADER_SIZE,
  isKnownVersion,
  MAX_MESSAGE_FDS,
  MAX_PAYLOAD_SIZE,
  requestName,
} from './messages.js';
import type { Message, MessageHeader } from './messages.js';

/** Messages taken without a pause before the event loop gets its turn: a front end that floods can't starve the rest. */
const MESSAGES_PER_TURN = 16;

export class MessageSocket {
  private readonly header = new Uint8Array(HEADER_SIZE);
  private watcher: FdWatcher | undefined;
  private wake: (() => void) | undefined;
  private closed = false;
  private sinceTurn = 0;

  /** Takes the descriptor over: `close` closes it. */
  constructor(
    private readonly addon: Addon,
    private readonly fd: number,
  ) {}

  /**
   * The next message; the caller owns its descriptors. `undefined` once the other side, or this one, has closed.
   * @throws {VhostUserProtocolError} if the header is wrong, if descriptors were lost or are too many, or if the
   * connection ends within a message.
   */
  async receive(): Promise<Message | undefined> {
    if (++this.sinceTurn > MESSAGES_PER_TURN) {
      this.sinceTurn = 0;
      await new Promise((resolve) => setImmediate(resolve));
    }
    const fds: number[] = [];
    try {
      const started = await this.fill(this.header, fds);
      if (started === 0) {
        // We may have closed in the middle of a header.
        closeAll(this.addon, fds);
        return undefined;
      }
      if (started < HEADER_SIZE) throw new VhostUserProtocolError('the connection ended within a message header');
      const header = decodeHeader(this.header);
      checkHeader(header);
      const payload = new Uint8Array(header.size);
      if ((await this.fill(payload, fds)) < header.size) {
        throw new VhostUserProtocolError(`the connection ended within ${requestName(header.request)}`);
      }
      return { header, payload: new DataView(payload.buffer), fds };
    } catch (error) {
      closeAll(this.addon, fds);
      throw error;
    }
  }

  /**
   * Sends all of `bytes`, waiting as long as the other side doesn't read: so at most one reply is ever held here. Does
   * nothing once the connection is gone.
   */
  async send(bytes: Uint8Array): Promise<void> {
    let sent = 0;
    while (sent < bytes.length && !this.closed) {
      try {
        const taken = this.addon.unixSend(this.fd, bytes, sent, []);
        sent += taken;
        if (taken === 0) await this.ready({ writable: true });
      } catch (error) {
        if (!isDisconnect(error)) throw error;
        return;
      }
    }
  }

  /** Ends the connection and whatever waits for it. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.watcher?.close();
    this.watcher = undefined;
    this.wake?.();
    this.addon.close(this.fd);
  }

  /** Reads until `buffer` is full or the connection ends; returns the number of bytes read. Adds descriptors to `fds`. */
  private async fill(buffer: Uint8Array, fds: number[]): Promise<number> {
    let filled = 0;
    while (filled < buffer.length && !this.closed) {
      const received = this.read(buffer, filled);
      if (received === undefined) {
        this.sinceTurn = 0;
        await this.ready({ readable: true });
        continue;
      }
      fds.push(...received.fds);
      if (received.truncated) throw new VhostUserProtocolError('descriptors were lost on the way (MSG_CTRUNC)');
      if (fds.length > MAX_MESSAGE_FDS)
        throw new VhostUserProtocolError(`more than ${MAX_MESSAGE_FDS} descriptors in one message`);
      if (received.length === 0) break;
      filled += received.length;
    }
    return this.closed ? 0 : filled;
  }

  private read(buffer: Uint8Array, offset: number): ReturnType<Addon['unixReceive']> {
    try {
      return this.addon.unixReceive(this.fd, buffer, offset, buffer.length - offset);
    } catch (error) {
      if (!isDisconnect(error)) throw error;
      return { length: 0, fds: [], truncated: false };
    }
  }

  /** Resolves when the socket is ready, or closed. Watched only meanwhile: the event loop's watch is level-triggered. */
  private async ready(events: { readable?: boolean; writable?: boolean }): Promise<void> {
    await new Promise<void>((resolve) => {
      this.wake = resolve;
      this.watcher = this.addon.watch(this.fd, events, resolve);
    });
    this.wake = undefined;
    this.watcher?.close();
    this.watcher = undefined;
  }
}

/** Closes descriptors and empties the list. Resets those that are connections: else one that lingers (SO_LINGER) would keep us waiting. */
export function closeAll(addon: Addon, fds: number[]): void {
  for (const fd of fds.splice(0)) addon.closeReset(fd);
}

function checkHeader(header: MessageHeader): void {
  const name = requestName(header.request);
  if (!isKnownVersion(header))
    throw new VhostUserProtocolError(`${name} has protocol version ${header.version} instead of 1`);
  if (header.reply) throw new VhostUserProtocolError(`${name} is marked as a reply`);
  if (header.size > MAX_PAYLOAD_SIZE)
    throw new VhostUserProtocolError(`${name} announces a payload of ${header.size} bytes`);
}

function isDisconnect(error: unknown): boolean {
  return ['ECONNRESET', 'EPIPE', 'ENOTCONN'].includes(errorCode(error));
}
