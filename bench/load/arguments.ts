/** Parsers of the values of `slipway bench load`'s options. Each throws commander's `InvalidArgumentError` with what is expected. */
import { existsSync } from 'node:fs';
import { InvalidArgumentError, Option } from 'commander';
import { MAX_SOCKET_PATH } from '../../src/config.js';
import { parseIpv4Address } from '../../workers/wire/ipv4.js';
import { integer, number } from '../arguments.js';
import { REFUSABLE } from '../driver/features.js';
import type { FeatureName } from '../driver/features.js';
import { parseMac } from '../driver/network.js';
import { MODES } from './result.js';
import type { Mode } from './result.js';

/** PID_MAX_LIMIT of 64-bit Linux. */
const LARGEST_PID = 4_194_304;

export function powerOfTwo(lowest: number, highest: number): (text: string) => number {
  return (text) => {
    const value = number(lowest, highest)(text);
    if (!Number.isInteger(Math.log2(value))) throw new InvalidArgumentError('It must be a power of two.');
    return value;
  };
}

export function mode(text: string): Mode {
  const found = MODES.find((name) => name === text);
  if (found === undefined) throw new InvalidArgumentError(`It must be one of ${MODES.join(', ')}.`);
  return found;
}

export function address(text: string): number {
  return refusing(() => parseIpv4Address(text));
}

/** A MAC address that a network card can have. */
export function macAddress(text: string): Uint8Array {
  const mac = refusing(() => parseMac(text));
  if ((mac[0] & 1) !== 0 || mac.every((byte) => byte === 0)) {
    throw new InvalidArgumentError(`${text} is a group address, or none.`);
  }
  return mac;
}

export function socketPath(text: string): string {
  if (text === '') throw new InvalidArgumentError('It must be a path.');
  if (Buffer.byteLength(text) > MAX_SOCKET_PATH) {
    throw new InvalidArgumentError(`It must be at most ${MAX_SOCKET_PATH} bytes long, as the path of a UNIX socket.`);
  }
  return text;
}

/** The number of a process that runs. */
export function processId(text: string): number {
  const pid = integer(1, LARGEST_PID)(text);
  if (!existsSync(`/proc/${pid}`)) throw new InvalidArgumentError(`There is no process ${pid}.`);
  return pid;
}

/** Of the sockets that send downloads: those that pace by timers (bbr) cost a receiver on the same host more. */
export function congestionOption(): Option {
  return new Option(
    '--congestion <name>',
    "the servers' congestion control, as bbr, cubic or reno (default: the host's)",
  );
}

/** `CSUM,HOST_TSO4`: features not to take. */
export function featureList(text: string): FeatureName[] {
  return text.split(',').map((part) => {
    const name = REFUSABLE.find((feature) => feature === part.toUpperCase());
    if (name === undefined) throw new InvalidArgumentError(`${part} is none of ${REFUSABLE.join(', ')}.`);
    return name;
  });
}

function refusing<Value>(parse: () => Value): Value {
  try {
    return parse();
  } catch (error) {
    throw new InvalidArgumentError(`${(error as Error).message}.`);
  }
}
