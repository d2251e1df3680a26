/** The control queue of a device on a running network, by both fronts where the clause applies (virtio 1.2 §5.1.6.5). */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ } from '../../device/features.js';
import { FRONTS, type Front, VhostUserFront } from './fronts.js';
import { CONTROL, FEATURES, UNANSWERED } from './queueGuest.js';
import * as fe from './vhostUser/frontEnd.js';

const OK = { ack: 0, used: 1, touched: false };
const ERR = { ack: 1, used: 1, touched: false };

describe.each(FRONTS)('%s, two pairs on %i workers', (_, workers, create) => {
  let front: Front;

  beforeAll(async () => {
    front = await create();
  });

  afterAll(async () => {
    await front.close();
  });

  /** Where the answer to a request on pair 1 goes while pair 1 is off: to another pair of the same worker's, if it has one. */
  const elsewhere = workers === 1 ? [0] : [];

  it('N14 §5.1.6.5.6.2 only pair 0 receives until the driver says otherwise', async () => {
    await using guest = await front.open();
    expect(await guest.askOn(0)).toEqual([0]);
    expect(await guest.askOn(1)).toEqual(elsewhere);
  });

  it('B5 N14 §5.1.6.5.6.2 obeys VQ_PAIRS_SET from when it is used, up and down, many times', async () => {
    await using guest = await front.open();
    for (let n = 0; n < 100; n++) {
      expect(await guest.setPairs(2)).toEqual(OK);
      expect(await guest.askOn(1)).toEqual([1]);
      expect(await guest.setPairs(1)).toEqual(OK);
      expect(await guest.askOn(1)).toEqual(elsewhere);
    }
  });

  it.each([0, 3, 0x8000, 0xffff])('§5.1.6.5.6 refuses %i pairs, and all stays as it was', async (pairs) => {
    await using guest = await front.open();
    await guest.setPairs(2);
    expect(await guest.setPairs(pairs)).toEqual(ERR);
    expect(await guest.askOn(1)).toEqual([1]);
  });

  it('R1 §2.7.4.1 takes a command however it is cut, the ack in the first byte that the device may write', async () => {
    await using guest = await front.open();
    const bytes = [4, 0, 2, 0];
    for (const cuts of [[4], [1, 3], [2, 2], [3, 1], [1, 1, 1, 1], [0, 4], [2, 0, 2]]) {
      for (const ack of [[1], [4], [0, 1], [1, 1]]) {
        expect([cuts, ack, await guest.command(bytes, cuts, ack)]).toEqual([cuts, ack, OK]);
      }
    }
  });

  it('§5.1.6.5 answers ERR to what it does not know, of any size', async () => {
    await using guest = await front.open();
    expect(await guest.command([0, 0, 1])).toEqual(ERR);
    expect(await guest.command([1, 1, 2, 0, 0, 0, 0, 1])).toEqual(ERR);
    expect(await guest.command([77, 7, 0, 0])).toEqual(ERR);
    expect(await guest.command([4], [1])).toEqual(ERR);
    expect(await guest.command([], [])).toEqual(ERR);
    const long = Array.from({ length: 4097 }, (__, n) => [4, 0, 2, 0][n] ?? 0);
    expect(await guest.command(long)).toEqual(ERR);
  });

  it('R2 gives a command without room for the answer back with nothing in it, and goes on', async () => {
    await using guest = await front.open();
    expect(await guest.command([4, 0, 2, 0], [4], [])).toEqual({ ack: UNANSWERED, used: 0, touched: false });
    expect(await guest.askOn(1)).toEqual(elsewhere);
    expect(await guest.setPairs(2)).toEqual(OK);
  });

  it('N14 the next driver finds nothing of the one before', async () => {
    for (const pairs of [1, 2]) {
      await using guest = await front.open();
      expect(await guest.askOn(1)).toEqual(elsewhere);
      await guest.setPairs(pairs);
    }
    await using guest = await front.open({ features: FEATURES & ~VIRTIO_NET_F_MQ, rings: [0, 1, 2] });
    expect(await guest.askOn(0)).toEqual([0]);
  });

  it('R7 §2.7.10 notifications of nothing change nothing', async () => {
    await using guest = await front.open();
    for (let n = 0; n < 20; n++) {
      guest.kickAll();
      expect(await guest.askOn(0)).toEqual([0]);
      expect(await guest.setPairs(1 + (n % 2))).toEqual(OK);
    }
    expect(guest.queues.map((queue) => queue.ringErrors)).toEqual([0, 0, 0, 0, 0]);
  });

  it('§5.1.2 without MQ the control queue is queue 2, and VQ_PAIRS_SET is refused', async () => {
    await using guest = await front.open({ features: FEATURES & ~VIRTIO_NET_F_MQ, rings: [0, 1, 2] });
    expect(await guest.setPairs(1)).toEqual(ERR);
    expect(await guest.askOn(0)).toEqual([0]);
  });
});

describe.each([1, 2])('vhost-user "Ring states", two pairs on %i workers', (workers) => {
  let front: VhostUserFront;
  const elsewhere = workers === 1 ? [0] : [];

  beforeAll(async () => {
    front = await VhostUserFront.create(workers);
  });

  afterAll(async () => {
    await front.close();
  });

  const open = (options?: Parameters<VhostUserFront['openRings']>[0]): ReturnType<VhostUserFront['openRings']> =>
    front.openRings(options);

  it('a disabled control queue is processed without side effects', async () => {
    using guest = await open({ disabled: [CONTROL] });
    expect(await guest.setPairs(2)).toEqual(ERR);
    expect(await guest.askOn(1)).toEqual(elsewhere);
  });

  it('the number of pairs outlives a change of memory', async () => {
    using guest = await open();
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
      using guest = await open({ features, rings: [0, 1, 2, 3] });
      expect(await guest.askOn(1)).toEqual([1]);
      guest.raw.send(fe.SET_VRING_ENABLE, fe.state(2, 0));
      await guest.raw.settled();
      expect(await guest.askOn(1)).toEqual(elsewhere);
    }
  });

  it('SET_VRING_ENABLE and VQ_PAIRS_SET both must allow a pair', async () => {
    using guest = await open({ disabled: [2] });
    expect(await guest.setPairs(2)).toEqual(OK);
    expect(await guest.askOn(1)).toEqual(elsewhere);
  });

  it('the next front end finds nothing of the one before, with a control queue or without', async () => {
    {
      using guest = await open();
      await guest.setPairs(1);
    }
    {
      using guest = await open({ rings: [0, 1, 2, 3] });
      expect(await guest.askOn(1)).toEqual([1]);
    }
    using guest = await open();
    expect(await guest.askOn(1)).toEqual(elsewhere);
  });
});
