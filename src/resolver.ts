/** Where the guests' queries of names go. */
import { readFileSync } from 'node:fs';
import { parseIpv4Address } from '../workers/wire/ipv4.js';
import { UsageError } from './errors.js';

/** `host`: the host's own name server; an IPv4 address; or none. */
export type DnsChoice = 'host' | (string & {}) | false;

const RESOLV_CONF = '/etc/resolv.conf';
/** How often the file is read again, ms. It may be replaced, and be a link to another: no watch is as sure. */
const REREAD_MS = 2_000;

export class Resolver {
  /** The name server's address in shared memory, as a signed int32; 0: there is none. */
  readonly address = new Int32Array(new SharedArrayBuffer(4));
  private readonly read = (): void => void Atomics.store(this.address, 0, nameServer(this.file));
  private readonly following: boolean;
  private timer: NodeJS.Timeout | undefined;

  /** @throws {UsageError} for a text that is neither `host` nor an IPv4 address */
  constructor(
    choice: DnsChoice,
    private readonly file = RESOLV_CONF,
  ) {
    this.following = choice === 'host';
    if (choice === 'host') this.read();
    else if (choice !== false) Atomics.store(this.address, 0, addressOf(choice));
  }

  /** Reads the host's file again every now and then, until closed. Doesn't keep the process alive. */
  follow(): void {
    if (this.following) this.timer = setInterval(this.read, REREAD_MS).unref();
  }

  close(): void {
    clearInterval(this.timer);
  }
}

function addressOf(text: string): number {
  try {
    return parseIpv4Address(text);
  } catch {
    throw new UsageError(`dns must be host, an IPv4 address, or off, not ${JSON.stringify(text)}`);
  }
}

/** The first IPv4 name server that a resolv.conf(5) names, whatever stands behind it, as in the C library; 0: none. */
function nameServer(file: string): number {
  let text = '';
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return 0;
  }
  for (const [, address] of text.matchAll(/^[ \t]*nameserver[ \t]+(\d+\.\d+\.\d+\.\d+)(?!\S)/gm)) {
    try {
      return parseIpv4Address(address!);
    } catch {
      // It is no address: the next one may be.
    }
  }
  return 0;
}
