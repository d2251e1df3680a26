/**
 * The rings of one connection and how they drive the data plane (vhost-user, "Ring states"): a ring starts once its size,
 * addresses and kick are told, and stops by GET_VRING_BASE.
 *
 * Between, memory may move: with ADD_MEM_REG and REM_MEM_REG front ends take away the region that holds a running ring
 * and give it back in another shape. Such a ring pauses, and goes on where it was once its parts lie in memory again.
 */
import type { Addon } from '../../src/native/addon.js';
import type { DeviceDataPlane, VirtqueueSetup } from '../dataPlane.js';
import { VHOST_USER_F_PROTOCOL_FEATURES, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ } from '../features.js';
import { VhostUserRequestError } from './errors.js';
import { MemoryTable } from './memoryTable.js';
import type { VringAddresses } from './messages.js';
import { checkedQueueSize, NO_FD, samePlace, Vring } from './vring.js';

export class Vrings {
  private readonly rings: readonly Vring[];
  private memory = MemoryTable.EMPTY;
  private features = 0n;

  constructor(
    private readonly addon: Addon,
    private readonly dataPlane: DeviceDataPlane,
  ) {
    // virtio 1.2 §5.1.2: receive and transmit queue of each pair, then the control queue.
    this.rings = Array.from({ length: 2 * dataPlane.pairs + 1 }, (_, index) => new Vring(index));
  }

  /** Number of rings. */
  get count(): number {
    return this.rings.length;
  }

  /** Rings restart under new features; those that are enabled and run can't. */
  async setFeatures(features: bigint): Promise<void> {
    for (const ring of this.rings) await this.settle(ring, 'features');
    this.features = features;
  }

  async setSize(index: number, num: number): Promise<void> {
    const ring = this.ring(index);
    const size = checkedQueueSize(num);
    if (size === ring.size) return;
    await this.settle(ring, 'size');
    ring.size = size;
    await this.start(ring);
  }

  async setBase(index: number, num: number): Promise<void> {
    const ring = this.ring(index);
    if (num > 0xffff) throw new VhostUserRequestError(`base ${num} of ring ${index} is no 16-bit index`);
    if (ring.running !== undefined && !(await this.rewind(ring))) await this.settle(ring, 'base');
    ring.base = num;
    await this.start(ring);
  }

  /** The same addresses may be told again at any time: front ends do so to switch their log on and off. */
  async setAddresses(index: number, addresses: VringAddresses): Promise<void> {
    const ring = this.ring(index);
    const old = ring.addresses;
    if (
      old !== undefined &&
      old.descTable === addresses.descTable &&
      old.availRing === addresses.availRing &&
      old.usedRing === addresses.usedRing
    ) {
      return;
    }
    await this.settle(ring, 'addresses');
    ring.addresses = addresses;
    try {
      // Memory and size may still come; with both there, a wrong address is told at once.
      if (ring.size > 0 && this.memory.regions.length > 0) ring.setup(this.memory);
      await this.start(ring);
    } catch (error) {
      ring.addresses = old;
      throw error;
    }
  }

  /** `fd` is an eventfd, owned from when this resolves. `NO_FD`: the ring is polled. A ring that runs goes on with the new one. */
  async setKick(index: number, fd: number): Promise<void> {
    const ring = this.ring(index);
    const old = ring.kick;
    await this.stop(ring);
    ring.kick = fd;
    try {
      await this.start(ring);
    } catch (error) {
      ring.kick = undefined;
      this.closeFd(old);
      throw error;
    }
    this.closeFd(old);
  }

  /** `fd` is an eventfd, owned from when this resolves. `NO_FD`: no notifications. */
  async setCall(index: number, fd: number): Promise<void> {
    const ring = this.ring(index);
    if (ring.running !== undefined && !ring.broken) await this.dataPlane.setCallFd(ring.running.queue, fd);
    this.closeFd(ring.call);
    ring.call = fd;
  }

  /** `fd` is an eventfd, owned from when this returns. `NO_FD`: none. */
  setErr(index: number, fd: number): void {
    const ring = this.ring(index);
    this.closeFd(ring.err);
    ring.err = fd;
  }

  async setEnabled(index: number, num: number): Promise<void> {
    const ring = this.ring(index);
    if (num > 1) throw new VhostUserRequestError(`ring ${index} can be disabled (0) or enabled (1), not ${num}`);
    ring.enabled = num === 1;
    if (ring.running !== undefined && !ring.broken) {
      await this.dataPlane.setQueueEnabled(ring.running.queue, ring.enabled);
    }
  }

  /** GET_VRING_BASE: stops the ring for good and returns its next available index. */
  async stopForGood(index: number): Promise<number> {
    const ring = this.ring(index);
    await this.halt(ring);
    return ring.base;
  }

  /** RESET_DEVICE: every ring back to its first state. Call and error eventfds are the front end's wiring and stay. */
  async reset(): Promise<void> {
    for (const ring of this.rings) {
      await this.halt(ring);
      ring.size = 0;
      ring.addresses = undefined;
      ring.base = 0;
      ring.enabled = undefined;
    }
    this.features = 0n;
  }

  /** Pauses the rings that don't lie in `memory` where they lie now. To be called before the data plane gets it. */
  async pauseFor(memory: MemoryTable): Promise<void> {
    for (const ring of this.rings) {
      if (ring.running === undefined || ring.broken) continue;
      const setup = setupIn(ring, memory);
      if (setup === undefined || !samePlace(setup, ring.running.setup)) await this.stop(ring);
    }
  }

  /** Starts the rings that wait for memory and lie in `memory`. To be called once the data plane has it. */
  async resumeIn(memory: MemoryTable): Promise<void> {
    this.memory = memory;
    for (const ring of this.rings) {
      if (ring.complete && setupIn(ring, memory) !== undefined) await this.start(ring);
    }
  }

  /** The data plane stopped a queue: tells the front end. Returns the ring's index. */
  markBroken(queue: number): number | undefined {
    const ring = this.rings.find((candidate) => candidate.running?.queue === queue);
    if (ring === undefined) return undefined;
    ring.broken = true;
    if (ring.err !== NO_FD) this.addon.eventfdSignalForeign(ring.err);
    return ring.index;
  }

  /** Closes all descriptors. The data plane must have been reset. */
  release(): void {
    for (const ring of this.rings) {
      this.closeFd(ring.kick);
      this.closeFd(ring.call);
      this.closeFd(ring.err);
      ring.kick = undefined;
      ring.call = ring.err = NO_FD;
    }
  }

  private ring(index: number): Vring {
    const ring = this.rings[index];
    if (ring === undefined) {
      const { pairs } = this.dataPlane;
      throw new VhostUserRequestError(
        `there is no ring ${index}: this device has ${pairs} queue pair${pairs === 1 ? '' : 's'} and a control queue`,
      );
    }
    return ring;
  }

  /** Starts a ring that is complete and doesn't run yet, unless there is no memory yet that it could lie in. */
  private async start(ring: Vring): Promise<void> {
    if (!ring.complete || ring.running !== undefined || this.memory.regions.length === 0) return;
    const setup = ring.setup(this.memory);
    const queue = this.queueOf(ring);
    await this.dataPlane.startQueue(queue, setup);
    ring.running = { queue, setup };
    // "If VHOST_USER_F_PROTOCOL_FEATURES has not been negotiated, the ring starts directly in the enabled state."
    await this.dataPlane.setQueueEnabled(queue, this.isEnabled(ring));
  }

  private async stop(ring: Vring): Promise<void> {
    if (ring.running === undefined) return;
    ring.base = await this.dataPlane.stopQueue(ring.running.queue);
    ring.running = undefined;
    ring.broken = false;
  }

  /** Stops a ring so that only another SET_VRING_KICK starts it. */
  private async halt(ring: Vring): Promise<void> {
    await this.stop(ring);
    this.closeFd(ring.kick);
    ring.kick = undefined;
  }

  /**
   * Makes sure that a ring doesn't run while `what` changes. A ring that is disabled is halted: some front ends (early
   * Cloud Hypervisor, DPDK's virtio-user) only disable their rings when the guest resets the device, and set them up
   * anew for its next driver. A ring that is enabled must be stopped by the front end first.
   */
  private async settle(ring: Vring, what: string): Promise<void> {
    if (ring.running === undefined) return;
    if (this.isEnabled(ring))
      throw new VhostUserRequestError(`the ${what} of ring ${ring.index} can't change while it runs`);
    await this.halt(ring);
  }

  /**
   * Stops a running ring that has taken nothing yet; returns whether it was one. The front end may tell a ring's base last:
   * by the specification a ring starts with its first kick, here as soon as it can.
   */
  private async rewind(ring: Vring): Promise<boolean> {
    const first = ring.running?.setup.lastAvailIdx;
    await this.stop(ring);
    if (ring.base === first) return true;
    await this.start(ring);
    return false;
  }

  private isEnabled(ring: Vring): boolean {
    return ring.enabled ?? (this.features & VHOST_USER_F_PROTOCOL_FEATURES) === 0n;
  }

  /**
   * The data plane's number of a ring's queue. virtio 1.2 §5.1.2: the control queue is 2N, where "N=1 if neither
   * VIRTIO_NET_F_MQ nor VIRTIO_NET_F_RSS are negotiated", and there are no queues beyond it.
   */
  private queueOf(ring: Vring): number {
    const multiqueue = (this.features & VIRTIO_NET_F_MQ) !== 0n || (this.features & VIRTIO_NET_F_CTRL_VQ) === 0n;
    if (multiqueue || ring.index < 2) return ring.index;
    if (ring.index === 2) return 2 * this.dataPlane.pairs;
    throw new VhostUserRequestError(`there is no ring ${ring.index} without VIRTIO_NET_F_MQ`);
  }

  private closeFd(fd: number | undefined): void {
    if (fd !== undefined && fd !== NO_FD) this.addon.close(fd);
  }
}

/** The set-up of a complete ring in `memory`; `undefined` if it doesn't lie there. */
function setupIn(ring: Vring, memory: MemoryTable): VirtqueueSetup | undefined {
  try {
    return ring.setup(memory);
  } catch (error) {
    if (!(error instanceof VhostUserRequestError)) throw error;
    return undefined;
  }
}
