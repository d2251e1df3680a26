/** passt, the peer (https://passt.top): how it is found, asked and started. */
import { execFileSync } from 'node:child_process';
import { InvalidArgumentError } from 'commander';
import { findProgram } from '../report/machine.js';
import type { ProgramCommand } from './backEndProcess.js';

/** One passt to measure. */
export interface Passt {
  /** What the report calls it. */
  readonly name: string;
  readonly command: ProgramCommand;
}

/** How passt reaches its guest: by virtqueues, or by frames over a stream socket (QEMU's `-netdev stream`). */
export type PasstMode = 'vhost-user' | 'stream';

/** passt's own default (passt(1), --mtu). */
export const PASST_MTU = 65_520;

/** The passt on PATH, if there is one. */
export function installedPasst(): readonly Passt[] {
  const path = findProgram('passt');
  return path === undefined ? [] : [{ name: 'passt', command: [path] }];
}

/** Parses `[NAME=]COMMAND` and adds it to those `before`. COMMAND is a program and arguments, separated by blanks. */
export function addPasst(text: string, before: readonly Passt[] = []): readonly Passt[] {
  const [, name = 'passt', rest = ''] = /^(?:([\w.-]+)=)?(.*)$/s.exec(text) ?? [];
  const [program, ...args] = rest.split(' ').filter((word) => word !== '');
  if (program === undefined) throw new InvalidArgumentError('It must be COMMAND or NAME=COMMAND.');
  if (before.some((each) => each.name === name)) throw new InvalidArgumentError(`The name ${name} is taken.`);
  return [...before, { name, command: [program, ...args] }];
}

/**
 * The whole command, with the addresses that the other back ends give their guests, 10.0.2.2 leading to the host's
 * 127.0.0.1 (passt(1): --address, --netmask, --gateway, --map-host-loopback).
 */
export function passtCommand({ command }: Passt, mode: PasstMode, socket: string): ProgramCommand {
  return [
    ...command,
    ...(mode === 'vhost-user' ? ['--vhost-user'] : []),
    // With --one-off it ends with its guest, should this process die before it can end it.
    ...`--foreground --one-off --socket ${socket} --ipv4-only`.split(' '),
    ...'--address 10.0.2.15 --netmask 24 --gateway 10.0.2.2 --map-host-loopback 10.0.2.2'.split(' '),
  ];
}

/** vhost-user where this passt has it: since the end of 2024. */
export function passtMode(passt: Passt): PasstMode {
  return ask(passt, '--help').includes('--vhost-user') ? 'vhost-user' : 'stream';
}

/** The first line of `--version`. */
export function passtVersion(passt: Passt): string {
  return ask(passt, '--version').split('\n', 1)[0]?.trim() || 'version unknown';
}

function ask({ command: [program, ...args] }: Passt, flag: string): string {
  try {
    return execFileSync(program, [...args, flag], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 10_000,
    });
  } catch (error) {
    return String((error as { stdout?: unknown }).stdout ?? '');
  }
}
