/** A network and the devices of VMMs in this process. */
import { describe, expect, it } from 'vitest';
import { OFFSET_STATUS } from '../device/netConfig.js';
import { VIRTIO_NET_S_LINK_UP } from '../device/netState.js';
import { createLogger } from '../src/log.js';
import { Network } from '../src/network.js';
import { PciGuest } from './device/pci/pciGuest.js';
import { PAIRS } from './device/queueGuest.js';
import { ENGINE } from './engineUnderTest.js';

const linkUp = ({ driver }: PciGuest): boolean => (driver.deviceConfig(OFFSET_STATUS, 2) & VIRTIO_NET_S_LINK_UP) !== 0;

const create = (): Promise<Network> =>
  Network.create({ engine: ENGINE, workers: 2, queues: PAIRS, log: createLogger('silent') });

describe('a device of a VMM in this process', () => {
  it('is among the devices of the statistics while it is attached', async () => {
    await using network = await create();
    const attached = await network.attach();
    const guest = await PciGuest.open(attached.device, attached.config);
    await guest.setPairs(2);
    expect(await guest.askOn(1)).toEqual([1]);
    const [device] = network.stats().devices;
    expect(device).toMatchObject({
      path: undefined,
      connected: true,
      receiveChains: [0, 1],
      transmitChains: [0, 1],
      filteredFrames: 0,
      brokenQueues: 0,
    });
    // Pair 0 lies still; pair 1 sent a frame and received one; the control queue was told the number of pairs.
    const told = expect.toSatisfy((count: number) => count > 0);
    expect(device!.kicks).toEqual([expect.any(Number), 0, expect.any(Number), told, told]);
    expect(device!.interrupts).toEqual([0, 0, told, expect.any(Number), told]);
    await guest[Symbol.asyncDispose]();
    await attached.detach();
    expect(network.stats().devices).toEqual([]);
  });

  it('learns that the network is closed, and its driver goes on without', async () => {
    const network = await create();
    let guest: PciGuest | undefined;
    const attached = await network.attach({ networkClosed: () => guest?.device.setLink(false) });
    guest = await PciGuest.open(attached.device, attached.config);
    expect(linkUp(guest)).toBe(true);
    await network.close();
    expect(linkUp(guest)).toBe(false);
    await guest.driver.setStatus(0);
    expect(guest.device.deviceStatus).toBe(0);
    await guest[Symbol.asyncDispose]();
    await attached.detach();
  });
});
