/** Load drivers as the guests of a network. Also runs outside a test, in a process of its own. */
import { DEVICE_DEFAULTS } from '../../bench/driver/device.js';
import type { DeviceOptions } from '../../bench/driver/device.js';
import { LOOP_DEFAULTS } from '../../bench/driver/eventLoop.js';
import type { LoopOptions } from '../../bench/driver/eventLoop.js';
import { FrontEnd } from '../../bench/driver/frontEnd.js';
import { GUEST_DEFAULTS, LoadDriver } from '../../bench/driver/loadDriver.js';
import type { WorkloadOptions } from '../../bench/driver/workloads.js';
import { WORKLOAD } from '../bench/driver/peerServer.js';

/** Below the ports that the kernel gives out, and apart from those of other test processes. */
export const PORT_BASE = 20_000 + ((process.pid * 20) % 12_000);
/** For hangs, not for speed. */
export const DEADLINE_MS = 40_000;

export interface DriveOptions {
  readonly path?: string;
  readonly device?: Partial<DeviceOptions>;
  readonly loop?: Partial<LoopOptions>;
  readonly workload?: Partial<WorkloadOptions>;
}

/** A driver that is ready to go; its device is behind `path`. */
export async function connectDriver(path: string, pairs: number, options: DriveOptions = {}): Promise<LoadDriver> {
  const driver = await LoadDriver.start(FrontEnd.connect(path), {
    device: { ...DEVICE_DEFAULTS, pairs, ...options.device },
    loop: { ...LOOP_DEFAULTS, strictChecksums: true, dhcp: true, timeoutMs: DEADLINE_MS, ...options.loop },
    guest: { mac: GUEST_DEFAULTS.mac, address: 0, mask: 0, gateway: 0 },
    workload: { ...WORKLOAD, flows: 8, portBase: PORT_BASE, ...options.workload },
  });
  try {
    await driver.ready();
  } catch (error) {
    await driver.close();
    throw error;
  }
  return driver;
}
