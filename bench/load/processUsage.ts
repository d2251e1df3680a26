/** What a process has used so far: /proc/PID/stat (proc(5)). */
import { readFileSync } from 'node:fs';

export interface ProcessUsage {
  /** CPU time in user and in kernel mode, s. */
  readonly user: number;
  readonly system: number;
  /** Resident memory, bytes. */
  readonly resident: number;
  readonly threads: number;
}

/** USER_HZ: 100 on every x86-64 Linux. */
const TICKS_PER_SECOND = 100;
const PAGE_SIZE = 4096;

/** `undefined` if there is no such process. */
export function processUsage(pid: number): ProcessUsage | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // The command's name may hold blanks and brackets: fields count from behind the last bracket, which is field 2.
  const fields = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  return {
    user: fields[11] / TICKS_PER_SECOND,
    system: fields[12] / TICKS_PER_SECOND,
    threads: fields[17],
    resident: fields[21] * PAGE_SIZE,
  };
}
