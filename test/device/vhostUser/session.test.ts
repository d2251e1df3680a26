/** The conversation with well-behaved front ends, in the order in which they talk (vhost-user specification). */
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { addon } from '../../../src/native/addon.js';
import * as fe from './frontEnd.js';
import { bringUp, CONFIG, Harness, OFFERED, qemuInit, qemuStart, startRing } from './harness.js';
import { openDescriptors } from '../../native/support.js';

let harness: Harness;
let guest: fe.Guest;
let frontEnd: fe.FrontEnd;

beforeEach(() => {
  harness = Harness.started();
  guest = new fe.Guest();
  frontEnd = harness.connect();
});

afterEach(async () => {
  frontEnd.close();
  guest.close();
  await harness[Symbol.asyncDispose]();
});

describe('feature negotiation', () => {
  test('S3 virtio 1.2 §5.1.3.1: all that is offered has what it needs', async () => {
    const offered = await frontEnd.askU64(fe.GET_FEATURES);
    // GUEST_TSO4, GUEST_TSO6 need GUEST_CSUM; HOST_TSO4, HOST_TSO6 need CSUM; MQ needs CTRL_VQ.
    for (const [feature, needs] of [
      [7n, 1n],
      [8n, 1n],
      [11n, 0n],
      [12n, 0n],
      [22n, 17n],
    ] as const) {
      expect([feature, (offered >> feature) & 1n]).toEqual([feature, 1n]);
      expect([needs, (offered >> needs) & 1n]).toEqual([needs, 1n]);
    }
  });

  test('S5 virtio 1.2 §2.2.2: the same set is taken again after a reset', async () => {
    for (let n = 0; n < 3; n++) {
      frontEnd.send(fe.SET_FEATURES, fe.u64(OFFERED | fe.F_PROTOCOL_FEATURES));
      await frontEnd.settled();
      expect(harness.device.features).toBe(OFFERED);
      frontEnd.send(fe.RESET_DEVICE);
      await frontEnd.settled();
      expect(harness.device.features).toBe(0n);
    }
  });

  test('GET_FEATURES offers the device features and VHOST_USER_F_PROTOCOL_FEATURES', async () => {
    expect(await frontEnd.askU64(fe.GET_FEATURES)).toBe(OFFERED | fe.F_PROTOCOL_FEATURES);
  });

  test('GET_PROTOCOL_FEATURES offers MQ, REPLY_ACK, CONFIG, RESET_DEVICE and CONFIGURE_MEM_SLOTS, before SET_FEATURES', async () => {
    expect(await frontEnd.askU64(fe.GET_PROTOCOL_FEATURES)).toBe(
      (1n << 0n) | (1n << 3n) | (1n << 9n) | (1n << 13n) | (1n << 15n),
    );
  });

  test('SET_FEATURES hands the virtio bits to the data plane, once for the same set', async () => {
    frontEnd.send(fe.SET_FEATURES, fe.u64(OFFERED | fe.F_PROTOCOL_FEATURES));
    frontEnd.send(fe.SET_FEATURES, fe.u64(OFFERED | fe.F_PROTOCOL_FEATURES));
    await frontEnd.settled();
    expect(harness.device.calls).toEqual([`setFeatures ${OFFERED}`]);
  });

  test('virtio 1.2 §5.1.3.1: MQ without CTRL_VQ is taken from front ends that serve the control queue themselves', async () => {
    frontEnd.send(fe.SET_FEATURES, fe.u64((1n << 22n) | (1n << 32n)));
    await frontEnd.settled();
    expect(harness.device.features).toBe((1n << 22n) | (1n << 32n));
  });

  test.each([
    ['GUEST_TSO4', 'GUEST_CSUM', 7n],
    ['GUEST_TSO6', 'GUEST_CSUM', 8n],
    ['HOST_TSO4', 'CSUM', 11n],
    ['HOST_TSO6', 'CSUM', 12n],
  ])('virtio 1.2 §5.1.3.1: %s is not used without %s', async (_feature, _needs, bit) => {
    // QEMU offers such sets with csum=off or guest_csum=off alone, and Linux accepts them.
    frontEnd.send(fe.SET_FEATURES, fe.u64((1n << bit) | (1n << 32n)));
    await frontEnd.settled();
    expect(harness.device.features).toBe(1n << 32n);
    expect(harness.warnings).toEqual([]);
  });

  test('a legacy driver may do without VERSION_1', async () => {
    frontEnd.send(fe.SET_FEATURES, fe.u64(1n << 5n));
    await frontEnd.settled();
    expect(harness.device.features).toBe(1n << 5n);
  });
});

describe('multiple queue support', () => {
  test('GET_QUEUE_NUM counts all virtqueues: enough for those who ask for pairs, right for those who ask for queues', async () => {
    expect(await frontEnd.askU64(fe.GET_QUEUE_NUM)).toBe(5n);
  });

  test('GET_MAX_MEM_SLOTS', async () => {
    expect(await frontEnd.askU64(fe.GET_MAX_MEM_SLOTS)).toBe(64n);
  });
});

describe('virtio device config space', () => {
  test('S6 N1 N2 virtio 1.2 §5.1.4: GET_CONFIG before SET_FEATURES returns mac, status, pairs and mtu, and zeroes behind them', async () => {
    const reply = await frontEnd.ask(fe.GET_CONFIG, fe.configAccess(0, 256));
    expect(reply.byteLength).toBe(12 + 256);
    expect([reply.getUint32(0, true), reply.getUint32(4, true)]).toEqual([0, 256]);
    expect([...new Uint8Array(reply.buffer, 12, 6)]).toEqual([...CONFIG.mac]);
    expect(reply.getUint16(12 + 6, true)).toBe(1);
    expect(reply.getUint16(12 + 8, true)).toBe(2);
    expect(reply.getUint16(12 + 10, true)).toBe(65520);
    expect(new Uint8Array(reply.buffer, 12 + 12).every((byte) => byte === 0)).toBe(true);
  });

  test('GET_CONFIG of a part', async () => {
    const reply = await frontEnd.ask(fe.GET_CONFIG, fe.configAccess(4, 3));
    expect([...new Uint8Array(reply.buffer, 12)]).toEqual([2, 3, 1]);
  });

  test('GET_CONFIG out of range is answered with no payload', async () => {
    expect((await frontEnd.ask(fe.GET_CONFIG, fe.configAccess(250, 7))).byteLength).toBe(0);
  });

  test('SET_CONFIG of a read-only field is refused if asked, else dropped; the connection stays', async () => {
    frontEnd.send(fe.SET_CONFIG, fe.configAccess(0, 6));
    frontEnd.send(fe.SET_PROTOCOL_FEATURES, fe.u64(fe.PROTOCOL_F_REPLY_ACK));
    expect(await frontEnd.ack(fe.SET_CONFIG, fe.configAccess(0, 6))).toBe(1n);
    await frontEnd.settled();
    expect(harness.warnings).toHaveLength(2);
  });
});

describe('the order of QEMU 10 with two pairs', () => {
  test('starts and enables all rings with translated addresses', async () => {
    await qemuInit(frontEnd, guest);
    await qemuStart(frontEnd, guest);
    const { running, enabled, memory } = harness.device;
    expect([...running.keys()]).toEqual([0, 1, 2, 3]);
    expect([...enabled.values()]).toEqual([true, true, true, true]);
    expect(memory).toHaveLength(1);
    expect(running.get(1)).toMatchObject({
      size: 256,
      descTable: 0x4000_4000,
      availRing: 0x4000_5000,
      usedRing: 0x4000_6000,
      lastAvailIdx: 0,
    });
    expect(harness.warnings).toEqual([]);
  });

  test('stops, gives bases back, and starts again from there', async () => {
    await qemuInit(frontEnd, guest);
    await qemuStart(frontEnd, guest);
    harness.device.nextAvailIdx = 77;
    for (let ring = 0; ring < 4; ring++) {
      const reply = await frontEnd.ask(fe.GET_VRING_BASE, fe.state(ring, 0));
      expect([reply.getUint32(0, true), reply.getUint32(4, true)]).toEqual([ring, 77]);
      expect(harness.device.running.has(ring)).toBe(false);
    }
    await qemuStart(frontEnd, guest, 77);
    expect([...harness.device.running.values()].map((setup) => setup.lastAvailIdx)).toEqual([77, 77, 77, 77]);
    expect([...harness.device.enabled.values()]).toEqual([true, true, true, true]);
  });

  test('SET_VRING_CALL on a running ring reaches the data plane; none is wanted with bit 8', async () => {
    await qemuInit(frontEnd, guest);
    await qemuStart(frontEnd, guest);
    frontEnd.send(fe.SET_VRING_CALL, fe.u64(1), [guest.call]);
    frontEnd.send(fe.SET_VRING_CALL, fe.u64(2 | fe.NO_FD));
    await frontEnd.settled();
    expect(harness.device.calls.slice(-2)).toEqual(['setCallFd 1', 'setCallFd 2']);
    expect(harness.device.running.get(2)!.callFd).toBe(-1);
  });

  test('ethtool -L: pairs are disabled and enabled while they run', async () => {
    await qemuInit(frontEnd, guest);
    await qemuStart(frontEnd, guest);
    expect(await frontEnd.ack(fe.SET_VRING_ENABLE, fe.state(2, 0))).toBe(0n);
    expect(harness.device.enabled.get(2)).toBe(false);
    expect(await frontEnd.ack(fe.SET_VRING_ENABLE, fe.state(2, 1))).toBe(0n);
    expect(harness.device.enabled.get(2)).toBe(true);
    expect(harness.device.calls.filter((call) => call.startsWith('stopQueue'))).toEqual([]);
  });

  test('RESET_DEVICE stops all rings and keeps memory', async () => {
    await qemuInit(frontEnd, guest);
    await qemuStart(frontEnd, guest);
    expect(await frontEnd.ack(fe.RESET_DEVICE)).toBe(0n);
    expect(harness.device.running.size).toBe(0);
    expect(harness.device.memory).toHaveLength(1);
    await qemuStart(frontEnd, guest, 1);
    expect([...harness.device.running.keys()]).toEqual([0, 1, 2, 3]);
  });
});

describe('the order of DPDK virtio-user, without protocol features', () => {
  async function start(): Promise<void> {
    frontEnd.send(fe.SET_OWNER);
    await frontEnd.ask(fe.GET_FEATURES);
    for (const ring of [0, 1]) frontEnd.send(fe.SET_VRING_CALL, fe.u64(ring), [guest.call]);
    frontEnd.send(fe.SET_FEATURES, fe.u64(OFFERED & ~((1n << 17n) | (1n << 5n) | (1n << 16n))));
    frontEnd.send(fe.SET_MEM_TABLE, fe.memoryTable([guest.region]), [guest.memory]);
    for (const ring of [0, 1]) {
      frontEnd.send(fe.SET_VRING_NUM, fe.state(ring, 256));
      frontEnd.send(fe.SET_VRING_BASE, fe.state(ring, 0));
      frontEnd.send(fe.SET_VRING_ADDR, guest.ringAddress(ring));
      frontEnd.send(fe.SET_VRING_KICK, fe.u64(ring), [guest.kick]);
    }
    await frontEnd.settled();
  }

  test('"ring states": without protocol features a ring starts enabled', async () => {
    await start();
    expect(harness.device.enabled.get(0)).toBe(true);
  });

  test('a memory event: rings are disabled, memory replaced, rings enabled, none stops', async () => {
    await start();
    for (const ring of [0, 1]) frontEnd.send(fe.SET_VRING_ENABLE, fe.state(ring, 0));
    frontEnd.send(fe.SET_MEM_TABLE, fe.memoryTable([guest.region]), [guest.memory]);
    for (const ring of [0, 1]) frontEnd.send(fe.SET_VRING_ENABLE, fe.state(ring, 1));
    await frontEnd.settled();
    expect(harness.device.calls).not.toContain('stopQueue 0');
    expect(harness.device.enabled.get(1)).toBe(true);
  });

  test('a stop that only disables: the rings are set up anew', async () => {
    await start();
    for (const ring of [0, 1]) frontEnd.send(fe.SET_VRING_ENABLE, fe.state(ring, 0));
    frontEnd.send(fe.RESET_OWNER);
    frontEnd.send(fe.SET_FEATURES, fe.u64(1n << 32n));
    await frontEnd.settled();
    expect(harness.device.running.size).toBe(0);
    await start();
    expect([...harness.device.running.keys()]).toEqual([0, 1]);
    expect(harness.warnings).toEqual([]);
  });
});

describe('ring states', () => {
  test('with protocol features a ring starts disabled, until SET_VRING_ENABLE', async () => {
    frontEnd.send(fe.SET_FEATURES, fe.u64(OFFERED | fe.F_PROTOCOL_FEATURES));
    frontEnd.send(fe.SET_MEM_TABLE, fe.memoryTable([guest.region]), [guest.memory]);
    startRing(frontEnd, guest, 0);
    await frontEnd.settled();
    expect(harness.device.enabled.get(0)).toBe(false);
    frontEnd.send(fe.SET_VRING_ENABLE, fe.state(0, 1));
    await frontEnd.settled();
    expect(harness.device.enabled.get(0)).toBe(true);
  });

  test('enabled before it is kicked, a ring starts enabled', async () => {
    frontEnd.send(fe.SET_FEATURES, fe.u64(OFFERED | fe.F_PROTOCOL_FEATURES));
    frontEnd.send(fe.SET_MEM_TABLE, fe.memoryTable([guest.region]), [guest.memory]);
    frontEnd.send(fe.SET_VRING_ENABLE, fe.state(0, 1));
    startRing(frontEnd, guest, 0);
    await frontEnd.settled();
    expect(harness.device.enabled.get(0)).toBe(true);
  });

  test('bit 8 of SET_VRING_KICK: the ring is polled', async () => {
    frontEnd.send(fe.SET_MEM_TABLE, fe.memoryTable([guest.region]), [guest.memory]);
    frontEnd.send(fe.SET_VRING_NUM, fe.state(0, 256));
    frontEnd.send(fe.SET_VRING_ADDR, guest.ringAddress(0));
    frontEnd.send(fe.SET_VRING_KICK, fe.u64(fe.NO_FD));
    await frontEnd.settled();
    expect(harness.device.running.get(0)).toMatchObject({ kickFd: -1, callFd: -1 });
  });

  test('a ring starts whichever message comes last', async () => {
    frontEnd.send(fe.SET_MEM_TABLE, fe.memoryTable([guest.region]), [guest.memory]);
    frontEnd.send(fe.SET_VRING_KICK, fe.u64(0), [guest.kick]);
    frontEnd.send(fe.SET_VRING_ADDR, guest.ringAddress(0));
    await frontEnd.settled();
    expect(harness.device.running.size).toBe(0);
    frontEnd.send(fe.SET_VRING_NUM, fe.state(0, 256));
    await frontEnd.settled();
    expect(harness.device.running.size).toBe(1);
  });

  test('all that a ring needs may come in any order, memory too', async () => {
    const steps: readonly [request: number, payload: Uint8Array, fds?: readonly number[]][] = [
      [fe.SET_MEM_TABLE, fe.memoryTable([guest.region]), [guest.memory]],
      [fe.SET_VRING_NUM, fe.state(0, 256)],
      [fe.SET_VRING_BASE, fe.state(0, 7)],
      [fe.SET_VRING_ADDR, guest.ringAddress(0)],
      [fe.SET_VRING_KICK, fe.u64(0), [guest.kick]],
      [fe.SET_VRING_ENABLE, fe.state(0, 1)],
    ];
    const told = async (order: typeof steps): Promise<void> => {
      const other = harness.connect();
      other.send(fe.SET_FEATURES, fe.u64(OFFERED | fe.F_PROTOCOL_FEATURES));
      for (const [request, payload, fds] of order) other.send(request, payload, fds);
      await other.settled();
      expect(harness.device.running.get(0)).toMatchObject({ lastAvailIdx: 7 });
      expect(harness.device.enabled.get(0)).toBe(true);
      await harness.leave(other);
    };
    await harness.leave(frontEnd);
    const anyOrder = fc.shuffledSubarray([...steps], { minLength: steps.length });
    await fc.assert(fc.asyncProperty(anyOrder, told), { numRuns: 200 });
    expect(harness.warnings).toEqual([]);
  });

  test('GET_VRING_BASE of a ring that never ran gives back its base', async () => {
    frontEnd.send(fe.SET_VRING_BASE, fe.state(3, 1234));
    expect((await frontEnd.ask(fe.GET_VRING_BASE, fe.state(3, 0))).getUint32(4, true)).toBe(1234);
    expect(harness.device.calls).toEqual([]);
  });

  test('another SET_VRING_KICK on a running ring restarts it where it was', async () => {
    await bringUp(frontEnd, guest);
    harness.device.nextAvailIdx = 9;
    expect(await frontEnd.ack(fe.SET_VRING_KICK, fe.u64(0), [guest.kick])).toBe(0n);
    expect(harness.device.running.get(0)!.lastAvailIdx).toBe(9);
    expect(harness.device.enabled.get(0)).toBe(true);
  });

  test('SET_VRING_ADDR with the same addresses, to switch the log flag, disturbs nothing', async () => {
    await bringUp(frontEnd, guest);
    const before = harness.device.calls.length;
    expect(await frontEnd.ack(fe.SET_VRING_ADDR, guest.ringAddress(0, 1))).toBe(0n);
    expect(harness.device.calls).toHaveLength(before);
  });

  test('virtio 1.2 §5.1.2: without MQ the control queue is ring 2', async () => {
    frontEnd.send(fe.SET_FEATURES, fe.u64((1n << 17n) | (1n << 32n)));
    frontEnd.send(fe.SET_MEM_TABLE, fe.memoryTable([guest.region]), [guest.memory]);
    startRing(frontEnd, guest, 2);
    await frontEnd.settled();
    expect([...harness.device.running.keys()]).toEqual([4]);
  });

  test('a queue that the data plane finds broken: the error eventfd fires, the session goes on, the ring can be stopped', async () => {
    await bringUp(frontEnd, guest);
    expect(await frontEnd.ack(fe.SET_VRING_ERR, fe.u64(0), [guest.err])).toBe(0n);
    harness.device.onQueueBroken(0, 'descriptor 7 loops (virtio 1.2 §2.7.5.3.1)');
    expect(addon.eventfdDrain(guest.err)).toBe(0);
    expect(harness.warnings).toEqual([expect.stringContaining('descriptor 7 loops')]);
    expect(await frontEnd.ack(fe.SET_VRING_CALL, fe.u64(0), [guest.call])).toBe(0n);
    expect(await frontEnd.ack(fe.SET_VRING_ENABLE, fe.state(0, 0))).toBe(0n);
    await frontEnd.ask(fe.GET_VRING_BASE, fe.state(0, 0));
    startRing(frontEnd, guest, 0);
    await frontEnd.settled();
    expect(harness.device.running.has(0)).toBe(true);
  });
});

describe('memory regions', () => {
  const second = { guestAddress: 0x1_0000_0000, size: 1 << 20, userAddress: 0x7e00_0000_0000n, fileOffset: 0 };

  test('ADD_MEM_REG and REM_MEM_REG change the table; the region is known by its addresses and size', async () => {
    await bringUp(frontEnd, guest);
    expect(await frontEnd.ack(fe.ADD_MEM_REG, fe.singleRegion(second), [guest.memory])).toBe(0n);
    expect(harness.device.memory.map((region) => region.guestAddress)).toEqual([0x4000_0000, 0x1_0000_0000]);
    expect(await frontEnd.ack(fe.REM_MEM_REG, fe.singleRegion({ ...second, fileOffset: 4096 }))).toBe(0n);
    expect(harness.device.memory.map((region) => region.guestAddress)).toEqual([0x4000_0000]);
    expect(harness.device.calls).not.toContain('stopQueue 0');
  });

  test('a region may begin anywhere in its file and in the address spaces, as long as rings stay aligned in it', async () => {
    const odd = { guestAddress: 0x4000_0010, size: 0x5_0001, userAddress: 0x7f00_0000_0001n, fileOffset: 0x810 };
    frontEnd.send(fe.SET_MEM_TABLE, fe.memoryTable([odd]), [guest.memory]);
    const start = odd.userAddress;
    frontEnd.send(fe.SET_VRING_NUM, fe.state(0, 256));
    frontEnd.send(fe.SET_VRING_ADDR, fe.vringAddress(0, start, start + 0x1000n, start + 0x2000n));
    frontEnd.send(fe.SET_VRING_KICK, fe.u64(0), [guest.kick]);
    await frontEnd.settled();
    expect(harness.device.memory).toMatchObject([{ guestAddress: 0x4000_0010, fileOffset: 0x810 }]);
    expect(harness.device.running.get(0)).toMatchObject({ descTable: 0x4000_0010, usedRing: 0x4000_2010 });
  });

  test('REM_MEM_REG with a descriptor, as front ends of old send it, closes it', async () => {
    await bringUp(frontEnd, guest);
    const before = openDescriptors();
    expect(await frontEnd.ack(fe.REM_MEM_REG, fe.singleRegion(guest.region), [guest.memory])).toBe(0n);
    expect(openDescriptors()).toBe(before - 1);
  });

  test('a ring whose region goes away pauses, and goes on when it comes back', async () => {
    await bringUp(frontEnd, guest);
    harness.device.nextAvailIdx = 500;
    expect(await frontEnd.ack(fe.REM_MEM_REG, fe.singleRegion(guest.region))).toBe(0n);
    expect(harness.device.running.size).toBe(0);
    const half = { ...guest.region, size: guest.region.size / 2 };
    expect(await frontEnd.ack(fe.ADD_MEM_REG, fe.singleRegion(half), [guest.memory])).toBe(0n);
    expect(harness.device.running.get(0)!.lastAvailIdx).toBe(500);
    expect(harness.device.enabled.get(0)).toBe(true);
  });

  test('a ring that SET_MEM_TABLE moves in the guest restarts at its new place', async () => {
    await bringUp(frontEnd, guest);
    const moved = { ...guest.region, guestAddress: 0x8000_0000 };
    expect(await frontEnd.ack(fe.SET_MEM_TABLE, fe.memoryTable([moved]), [guest.memory])).toBe(0n);
    expect(harness.device.running.get(0)!.descTable).toBe(0x8000_0000);
  });

  test.each([
    ['ADD_MEM_REG', fe.ADD_MEM_REG, fe.singleRegion(second)],
    ['SET_MEM_TABLE', fe.SET_MEM_TABLE, fe.memoryTable([second])],
  ])('%s of memory that the data plane cannot map is refused, and changes nothing', async (_name, request, payload) => {
    await bringUp(frontEnd, guest);
    const before = openDescriptors();
    harness.device.failNext = 'setMemory';
    expect(await frontEnd.ack(request, payload, [guest.memory])).toBe(1n);
    expect(openDescriptors()).toBe(before);
    expect(harness.device.memory.map((region) => region.guestAddress)).toEqual([0x4000_0000]);
    expect(harness.device.enabled.get(0)).toBe(true);
    expect(await frontEnd.ack(request, payload, [guest.memory])).toBe(0n);
  });
});

describe('communication', () => {
  test('a whole bring-up sent byte by byte, descriptors with the first byte of each message', async () => {
    const steps: [number, Uint8Array, number[]][] = [
      [fe.SET_PROTOCOL_FEATURES, fe.u64(fe.PROTOCOL_F_REPLY_ACK), []],
      [fe.SET_FEATURES, fe.u64(OFFERED), []],
      [fe.SET_MEM_TABLE, fe.memoryTable([guest.region]), [guest.memory]],
      [fe.SET_VRING_NUM, fe.state(0, 256), []],
      [fe.SET_VRING_ADDR, guest.ringAddress(0), []],
      [fe.SET_VRING_KICK, fe.u64(0), [guest.kick]],
    ];
    for (const [request, payload, fds] of steps) await frontEnd.trickle(fe.message(request, payload), fds);
    await frontEnd.settled();
    expect([...harness.device.running.keys()]).toEqual([0]);
  });

  test('many messages in one write are obeyed in order', async () => {
    frontEnd.sendBytes(
      fe.concat(
        fe.message(fe.SET_VRING_BASE, fe.state(0, 1)),
        fe.message(fe.SET_VRING_BASE, fe.state(0, 2)),
        fe.message(fe.GET_VRING_BASE, fe.state(0, 0)),
        fe.message(fe.SET_VRING_BASE, fe.state(0, 3)),
        fe.message(fe.GET_VRING_BASE, fe.state(0, 0)),
      ),
    );
    expect((await frontEnd.receive())!.payload.getUint32(4, true)).toBe(2);
    expect((await frontEnd.receive())!.payload.getUint32(4, true)).toBe(3);
  });

  test('VHOST_USER_PROTOCOL_F_REPLY_ACK: need_reply is obeyed only once negotiated', async () => {
    frontEnd.send(fe.SET_OWNER, undefined, [], 1 | fe.FLAG_NEED_REPLY);
    frontEnd.send(fe.SET_PROTOCOL_FEATURES, fe.u64(fe.PROTOCOL_F_REPLY_ACK));
    expect(await frontEnd.ack(fe.SET_OWNER)).toBe(0n);
  });

  test('VHOST_USER_PROTOCOL_F_REPLY_ACK: need_reply changes nothing for requests with a reply of their own', async () => {
    frontEnd.send(fe.SET_PROTOCOL_FEATURES, fe.u64(fe.PROTOCOL_F_REPLY_ACK));
    expect((await frontEnd.ask(fe.GET_FEATURES, undefined, [], 1 | fe.FLAG_NEED_REPLY)).getBigUint64(0, true)).toBe(
      OFFERED | fe.F_PROTOCOL_FEATURES,
    );
    await frontEnd.settled();
  });

  test('SEND_RARP and RESET_OWNER are taken and do nothing', async () => {
    await bringUp(frontEnd, guest);
    const before = harness.device.calls.length;
    expect(await frontEnd.ack(fe.SEND_RARP, fe.u64(0))).toBe(0n);
    expect(await frontEnd.ack(fe.RESET_OWNER)).toBe(0n);
    expect(harness.device.calls).toHaveLength(before);
  });

  test('when the front end leaves, the data plane is reset before descriptors are closed', async () => {
    await bringUp(frontEnd, guest);
    const { fd } = harness.device.memory[0]!;
    let openAtReset = false;
    const reset = harness.device.reset.bind(harness.device);
    harness.device.reset = async () => {
      await reset();
      openAtReset = addon.fdInfo(fd).kind === 'file';
    };
    await harness.leave(frontEnd);
    expect(openAtReset).toBe(true);
    expect(harness.device.calls.at(-1)).toBe('reset');
    expect(() => addon.fdInfo(fd)).toThrow('Bad file descriptor');
  });

  test('a call of the data plane that fails ends the connection with one line', async () => {
    harness.device.failNext = 'setFeatures';
    frontEnd.send(fe.SET_FEATURES, fe.u64(0));
    await frontEnd.ended();
    await harness.idle();
    expect(harness.warnings).toEqual([expect.stringContaining('SET_FEATURES: setFeatures failed')]);
  });
});
