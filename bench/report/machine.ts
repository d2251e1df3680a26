/** Where a benchmark ran: what a reader needs before comparing its figures with others. */
import { execFileSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { delimiter, join } from 'node:path';
import { hasVirtualizationFlag } from '../../arch/x86_64/x86_64.js';

export interface Machine {
  /** `model name` of /proc/cpuinfo. */
  readonly cpu: string;
  /** CPUs that are online. */
  readonly cores: number;
  readonly memoryGiB: number;
  /** Linux release. */
  readonly kernel: string;
  /** TCP's congestion control, unless sockets choose another (tcp(7), tcp_congestion_control). */
  readonly congestion: string;
  readonly node: string;
  /** Whether the CPU runs guests itself (`vmx` or `svm` in /proc/cpuinfo): otherwise QEMU emulates them (TCG). */
  readonly hardwareKvm: boolean;
  /** First line of `--version`; null: not installed. */
  readonly qemu: string | null;
  readonly passt: string | null;
}

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    congestion: readFileSync('/proc/sys/net/ipv4/tcp_congestion_control', 'utf8').trim(),
    node: process.version,
    hardwareKvm: hasVirtualizationFlag(readFileSync('/proc/cpuinfo', 'utf8')),
    qemu: versionOf('qemu-system-x86_64'),
    passt: versionOf('passt'),
  };
}

/** One line for people. */
export function machineLine(machine: Machine): string {
  const guests = machine.hardwareKvm
    ? 'hardware KVM'
    : 'no hardware KVM: guests are emulated (TCG), which dominates their figures';
  const programs = [machine.qemu, machine.passt].filter((program) => program !== null);
  return [
    `${machine.cores} × ${machine.cpu}, ${machine.memoryGiB} GiB`,
    `Linux ${machine.kernel}, ${machine.congestion}`,
    `Node ${machine.node}`,
    ...programs,
    guests,
  ].join('; ');
}

/** The path of a program on PATH; undefined if it isn't installed. */
export function findProgram(name: string): string | undefined {
  return (process.env['PATH'] ?? '')
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find((path) => isExecutable(path));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function versionOf(program: string): string | null {
  const path = findProgram(program);
  if (path === undefined) return null;
  try {
    return execFileSync(path, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], timeout: 10_000 })
      .split('\n', 1)[0]!
      .trim();
  } catch {
    return `${program}, version unknown`;
  }
}
