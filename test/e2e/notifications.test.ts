/** Interrupts that must not get lost when a queue stops and starts again, against a whole network. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addon } from '../../src/native/addon.js';
import { createLogger } from '../../src/log.js';
import { Network } from '../../src/network.js';
import { ENGINE } from '../engineUnderTest.js';
import * as fe from '../device/vhostUser/frontEnd.js';
import { bringUp, startRing } from '../device/vhostUser/harness.js';

const folder = mkdtempSync(join(tmpdir(), 'slipway-notifications-'));
const path = join(folder, 'socket');
const guest = new fe.Guest();
let network: Network;

beforeAll(async () => {
  network = await Network.create({ engine: ENGINE, workers: 2, queues: 2, log: createLogger('silent') });
  await network.serve({ path });
});

afterAll(async () => {
  await network.close();
  guest.close();
  rmSync(folder, { recursive: true, force: true });
});

describe('virtio 1.2 §2.7.10, used_event: the driver is interrupted once', () => {
  it('when a ring starts again where it was stopped: the interrupt before may be lost', async () => {
    const frontEnd = fe.FrontEnd.connect(path);
    await bringUp(frontEnd, guest);
    const reply = await frontEnd.ask(fe.GET_VRING_BASE, fe.state(0, 0));
    addon.eventfdDrain(guest.call);
    startRing(frontEnd, guest, 0, reply.getUint32(4, true));
    await frontEnd.settled();
    expect(addon.eventfdDrain(guest.call)).toBe(0);
    frontEnd.close();
  });

  it('when a ring that runs gets another call eventfd', async () => {
    const frontEnd = fe.FrontEnd.connect(path);
    await bringUp(frontEnd, guest);
    addon.eventfdDrain(guest.call);
    frontEnd.send(fe.SET_VRING_CALL, fe.u64(0), [guest.call]);
    await frontEnd.settled();
    expect(addon.eventfdDrain(guest.call)).toBe(0);
    frontEnd.close();
  });
});
