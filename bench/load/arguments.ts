/** Parsers of the values of `slipway bench load`'s options. Each throws commander's `InvalidArgumentError` with what is expected. */
import { InvalidArgumentError } from 'commander';
import { REFUSABLE } from '../driver/features.js';
import type { FeatureName } from '../driver/features.js';
import { parseIpv4, parseMac } from '../driver/network.js';
import { MODES } from './result.js';
import type { Mode } from './result.js';

export function number(lowest: number, highest: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+(\.\d+)?$/.test(text) || value < lowest || value > highest) {
      throw new InvalidArgumentError(`It must be a number from ${lowest} to ${highest}.`);
    }
    return value;
  };
}

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
  return refusing(() => parseIpv4(text));
}

export function macAddress(text: string): Uint8Array {
  return refusing(() => parseMac(text));
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
