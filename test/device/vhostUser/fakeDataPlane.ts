/** A data plane that records what it is asked to do, and does it at its leisure. */
import type { DeviceDataPlane, MemoryRegion, VirtqueueSetup } from '../../../device/dataPlane.js';
import { NET_STATE_WORDS, NetState } from '../../../device/netState.js';
import { addon } from '../../../src/native/addon.js';

export class FakeDataPlane implements DeviceDataPlane {
  /** Calls in order, such as `startQueue 0` or `setMemory 2`. */
  readonly calls: string[] = [];
  readonly running = new Map<number, VirtqueueSetup>();
  readonly enabled = new Map<number, boolean>();
  memory: readonly MemoryRegion[] = [];
  features = 0n;
  /** Notifications that came without an eventfd; whether to refuse them. */
  readonly kicks: number[] = [];
  kicksRefused = false;
  /** What `stopQueue` returns for queues that ran. */
  nextAvailIdx = 0;
  /** Makes the next call of this name fail. */
  failNext: string | undefined;
  readonly net = new NetState(new Int32Array(NET_STATE_WORDS));
  onQueueBroken: (index: number, reason: string) => void = () => undefined;
  private busy = false;

  constructor(readonly pairs = 2) {}

  async setFeatures(features: bigint): Promise<void> {
    await this.record('setFeatures', features);
    this.features = features;
  }

  async setMemory(regions: readonly MemoryRegion[]): Promise<void> {
    await this.record('setMemory', regions.length);
    for (const { fd, size, fileOffset } of regions) {
      if (addon.fdInfo(fd).size < fileOffset + size) throw new Error('region beyond its file');
    }
    this.memory = regions;
  }

  async startQueue(index: number, setup: VirtqueueSetup): Promise<void> {
    await this.record('startQueue', index);
    if (this.running.has(index)) throw new Error(`queue ${index} runs already`);
    for (const fd of [setup.kickFd, setup.callFd]) {
      if (fd !== -1 && addon.fdInfo(fd).kind !== 'eventfd') throw new Error('no eventfd');
    }
    this.checkInMemory(setup.descTable, 16 * setup.size, 16);
    this.checkInMemory(setup.availRing, 6 + 2 * setup.size, 2);
    this.checkInMemory(setup.usedRing, 6 + 8 * setup.size, 4);
    this.running.set(index, setup);
    this.enabled.delete(index);
  }

  async stopQueue(index: number): Promise<number> {
    await this.record('stopQueue', index);
    if (!this.running.delete(index)) throw new Error(`queue ${index} does not run`);
    return this.nextAvailIdx;
  }

  async setQueueEnabled(index: number, enabled: boolean): Promise<void> {
    await this.record(enabled ? 'enable' : 'disable', index);
    if (!this.running.has(index)) throw new Error(`queue ${index} does not run`);
    this.enabled.set(index, enabled);
  }

  async setCallFd(index: number, callFd: number): Promise<void> {
    await this.record('setCallFd', index);
    const setup = this.running.get(index);
    if (setup === undefined) throw new Error(`queue ${index} does not run`);
    this.running.set(index, { ...setup, callFd });
  }

  kick(index: number): boolean {
    this.kicks.push(index);
    return !this.kicksRefused;
  }

  async reset(): Promise<void> {
    await this.record('reset');
    this.running.clear();
    this.enabled.clear();
    this.memory = [];
    this.features = 0n;
  }

  private checkInMemory(address: number, size: number, alignment: number): void {
    const inside = this.memory.some(
      (region) => address >= region.guestAddress && address + size <= region.guestAddress + region.size,
    );
    if (!inside || address % alignment !== 0) throw new Error(`a ring at ${address} is out of memory or not aligned`);
  }

  /** Calls must come one at a time; each takes a turn of the event loop. */
  private async record(name: string, argument?: bigint | number): Promise<void> {
    if (this.busy) throw new Error(`${name} was called before the call before had ended`);
    this.busy = true;
    await new Promise((resolve) => setImmediate(resolve));
    this.busy = false;
    this.calls.push(argument === undefined ? name : `${name} ${argument}`);
    if (this.failNext === name) {
      this.failNext = undefined;
      throw Object.assign(new Error(`${name} failed`), { code: 'ENOMEM' });
    }
  }
}
