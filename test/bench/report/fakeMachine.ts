import type { Machine } from '../../../bench/report/machine.js';

/** A machine to be named below a table. */
export const MACHINE: Machine = {
  cpu: 'CPU',
  cores: 2,
  memoryGiB: 8,
  kernel: '6.1',
  node: 'v20',
  congestion: 'cubic',
  hardwareKvm: false,
  qemu: 'QEMU 10',
  passt: null,
};
