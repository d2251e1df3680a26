/** The control queue of a device on a running network, over vhost-user (virtio 1.2 §5.1.6.5). */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ } from '../../device/features.js';
import { createLogger } from '../../src/log.js';
import { Network } from '../../src/network.js';
import { ENGINE } from '../engineUnderTest.js';
import { CONTROL, ControlGuest, FEATURES, UNANSWERED } from './controlGuest.js';
import * as fe from './vhostUser/frontEnd.js';

const OK = { ack: 0, used: 1, touched: false };
const ERR = { ack: 1, used: 1, touched: false };

describe.each([1, 2])('two pairs on %i workers', (workers) => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-control-'));
  const path = join(folder, 'socket');
  let network: Network;

  beforeAll(async () => {
    network = await Network.create({ engine: ENGINE, workers, queues: 2, log: createLogger('silent') });
    await network.serve({ path });
  });

  afterAll(async () => {
    await network.close();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Where the answer to a request on pair 1 goes while pair 1 is off: to another pair of the same worker's, if it has one. */
  const elsewhere = workers === 1 ? [0] : [];

  it('§5.1.6.5.5 only pair 0 receives until the driver says otherwise', async () => {
    using guest = await ControlGuest.open(path);
    expect(await guest.askOn(0)).toEqual([0]);
    expect(await guest.askOn(1)).toEqual(elsewhere);
  });

  it('§5.1.6.5.5.2 obeys VQ_PAIRS_SET from when it is used, up and down, many times', async () => {
    using guest = await ControlGuest.open(path);
    for (let n = 0; n < 100; n++) {
      expect(await guest.setPairs(2)).toEqual(OK);
      expect(await guest.askOn(1)).toEqual([1]);
      expect(await guest.setPairs(1)).toEqual(OK);
      expect(await guest.askOn(1)).toEqual(elsewhere);
    }
  });

  it.each([0, 3, 0x8000, 0xffff])('§5.1.6.5.5 refuses %i pairs, and all stays as it was', async (pairs) => {
    using guest = await ControlGuest.open(path);
    await guest.setPairs(2);
    expect(await guest.setPairs(pairs)).toEqual(ERR);
    expect(await guest.askOn(1)).toEqual([1]);
  });

  it('§2.7.4.1 takes a command however it is cut, the ack in the first byte that the device may write', async () => {
    using guest = await ControlGuest.open(path);
    const bytes = [4, 0, 2, 0];
    for (const cuts of [[4], [1, 3], [2, 2], [3, 1], [1, 1, 1, 1], [0, 4], [2, 0, 2]]) {
      for (const ack of [[1], [4], [0, 1], [1, 1]]) {
        expect([cuts, ack, await guest.command(bytes, cuts, ack)]).toEqual([cuts, ack, OK]);
      }
    }
  });

  it('§5.1.6.5 answers ERR to what it does not know, of any size', async () => {
    using guest = await ControlGuest.open(path);
    expect(await guest.command([0, 0, 1])).toEqual(ERR);
    expect(await guest.command([1, 1, 2, 0, 0, 0, 0, 1])).toEqual(ERR);
    expect(await guest.command([77, 7, 0, 0])).toEqual(ERR);
    expect(await guest.command([4], [1])).toEqual(ERR);
    expect(await guest.command([], [])).toEqual(ERR);
    const long = Array.from({ length: 4097 }, (_, n) => [4, 0, 2, 0][n] ?? 0);
    expect(await guest.command(long)).toEqual(ERR);
  });

  it('gives a command without room for the answer back with nothing in it, and goes on', async () => {
    using guest = await ControlGuest.open(path);
    expect(await guest.command([4, 0, 2, 0], [4], [])).toEqual({ ack: UNANSWERED, used: 0, touched: false });
    expect(await guest.askOn(1)).toEqual(elsewhere);
    expect(await guest.setPairs(2)).toEqual(OK);
  });

  it('"Ring states": a disabled control queue is processed without side effects', async () => {
    using guest = await ControlGuest.open(path, { disabled: [CONTROL] });
    expect(await guest.setPairs(2)).toEqual(ERR);
    expect(await guest.askOn(1)).toEqual(elsewhere);
  });

  it('the number of pairs outlives a change of memory', async () => {
    using guest = await ControlGuest.open(path);
    await guest.setPairs(2);
    await guest.shareMemory();
    expect(await guest.askOn(1)).toEqual([1]);
    await guest.setPairs(1);
    await guest.shareMemory();
    expect(await guest.askOn(1)).toEqual(elsewhere);
    expect(await guest.setPairs(2)).toEqual(OK);
  });

  it('a front end that serves the control queue itself decides by SET_VRING_ENABLE alone', async () => {
    for (const features of [FEATURES, FEATURES & ~VIRTIO_NET_F_CTRL_VQ]) {
      using guest = await ControlGuest.open(path, { features, rings: [0, 1, 2, 3] });
      expect(await guest.askOn(1)).toEqual([1]);
      guest.raw.send(fe.SET_VRING_ENABLE, fe.state(2, 0));
      await guest.raw.settled();
      expect(await guest.askOn(1)).toEqual(elsewhere);
    }
  });

  it('SET_VRING_ENABLE and VQ_PAIRS_SET both must allow a pair', async () => {
    using guest = await ControlGuest.open(path, { disabled: [2] });
    expect(await guest.setPairs(2)).toEqual(OK);
    expect(await guest.askOn(1)).toEqual(elsewhere);
  });

  it('the next front end finds nothing of the one before', async () => {
    {
      using guest = await ControlGuest.open(path);
      await guest.setPairs(1);
    }
    {
      using guest = await ControlGuest.open(path, { rings: [0, 1, 2, 3] });
      expect(await guest.askOn(1)).toEqual([1]);
    }
    using guest = await ControlGuest.open(path);
    expect(await guest.askOn(1)).toEqual(elsewhere);
  });

  it('§5.1.2 without MQ the control queue is queue 2, and VQ_PAIRS_SET is refused', async () => {
    using guest = await ControlGuest.open(path, { features: FEATURES & ~VIRTIO_NET_F_MQ, rings: [0, 1, 2] });
    expect(await guest.setPairs(1)).toEqual(ERR);
    expect(await guest.askOn(0)).toEqual([0]);
  });
});
