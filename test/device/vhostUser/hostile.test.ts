/**
 * Front ends that are broken or hostile. Whatever they do: one clear line, no descriptor kept, no promise rejected, and
 * the next front end is served as ever.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addon } from '../../../src/native/addon.js';
import { ATTACKS, disarm, guest, MIB, WRONG_SIZES } from './attacks.js';
import * as fe from './frontEnd.js';
import { bringUp, Harness, startRing } from './harness.js';
import { openDescriptors } from '../../native/support.js';

const { region } = guest;
const BASE = region.userAddress;

const rejections: unknown[] = [];
const onRejection = (reason: unknown): void => void rejections.push(reason);

beforeAll(() => process.on('unhandledRejection', onRejection));
afterAll(() => {
  process.off('unhandledRejection', onRejection);
  disarm();
});

/** Runs an attack on a connection to a server of its own, then checks what must hold after every attack. */
async function survives(attack: (frontEnd: fe.FrontEnd, harness: Harness) => Promise<void>): Promise<void> {
  const before = openDescriptors();
  await using harness = Harness.started();
  const frontEnd = harness.connect();
  await attack(frontEnd, harness);
  await harness.leave(frontEnd);
  expect(harness.device.memory).toEqual([]);
  expect(harness.device.running.size).toBe(0);
  const next = harness.connect();
  await bringUp(next, guest);
  expect(harness.device.enabled.get(0)).toBe(true);
  await harness.leave(next);
  await harness.server.close();
  expect(openDescriptors()).toBe(before);
  expect(rejections).toEqual([]);
}

describe.each([...ATTACKS, ...WRONG_SIZES])('$name', ({ request, payload, fds, says }) => {
  test('is refused where an answer was asked for, and changes nothing', () =>
    survives(async (frontEnd, harness) => {
      await bringUp(frontEnd, guest);
      const calls = harness.device.calls.length;
      const kept = openDescriptors();
      expect(await frontEnd.ack(request, payload, fds)).toBe(1n);
      expect(harness.warnings).toEqual([expect.stringContaining(says)]);
      expect(harness.device.calls).toHaveLength(calls);
      expect(openDescriptors()).toBe(kept);
      await frontEnd.settled();
    }));

  test('else ends the connection with one line', () =>
    survives(async (frontEnd, harness) => {
      await bringUp(frontEnd, guest);
      frontEnd.send(request, payload, fds);
      await frontEnd.ended();
      await harness.idle();
      expect(harness.warnings).toEqual([expect.stringContaining(says)]);
    }));
});

describe('ring addresses on a connection with memory, of a ring of 256 entries', () => {
  const end = BASE + BigInt(MIB);
  const cases: readonly [name: string, desc: bigint, avail: bigint, used: bigint, says: string][] = [
    ['descriptor table not aligned to 16', BASE + 8n, BASE + 0x1000n, BASE + 0x2000n, 'aligned to 16'],
    ['available ring not aligned to 2', BASE, BASE + 0x1001n, BASE + 0x2000n, 'aligned to 2'],
    ['used ring not aligned to 4', BASE, BASE + 0x1000n, BASE + 0x2002n, 'aligned to 4'],
    ['descriptor table at 0', 0n, BASE + 0x1000n, BASE + 0x2000n, 'descriptor table'],
    ['descriptor table that wraps', 2n ** 64n - 16n, BASE + 0x1000n, BASE + 0x2000n, 'descriptor table'],
    ['descriptor table that ends beyond memory', end - 4080n, BASE + 0x1000n, BASE + 0x2000n, 'descriptor table'],
    ['descriptor table below memory', BASE - 16n, BASE + 0x1000n, BASE + 0x2000n, 'descriptor table'],
    ['available ring whose event field ends beyond memory', BASE, end - 516n, BASE + 0x2000n, 'available ring'],
    ['used ring whose event field ends beyond memory', BASE, BASE + 0x1000n, end - 2052n, 'used ring'],
    ['used ring beyond memory', BASE, BASE + 0x1000n, end, 'used ring'],
    ['guest addresses in place of user addresses', 0x4000_0000n, 0x4000_1000n, 0x4000_2000n, 'descriptor table'],
  ];

  test.each(cases)('%s', (_name, desc, avail, used, says) =>
    survives(async (frontEnd, harness) => {
      await bringUp(frontEnd, guest);
      frontEnd.send(fe.SET_VRING_NUM, fe.state(1, 256));
      expect(await frontEnd.ack(fe.SET_VRING_ADDR, fe.vringAddress(1, desc, avail, used))).toBe(1n);
      expect(harness.warnings).toEqual([expect.stringContaining(says)]);
    }),
  );

  test('the last place where the rings fit is taken', () =>
    survives(async (frontEnd) => {
      await bringUp(frontEnd, guest);
      frontEnd.send(fe.SET_VRING_NUM, fe.state(1, 256));
      expect(await frontEnd.ack(fe.SET_VRING_ADDR, fe.vringAddress(1, end - 4096n, end - 518n, BASE))).toBe(0n);
    }));

  test('a size under which the addresses that were told do not fit is refused when the ring starts', () =>
    survives(async (frontEnd, harness) => {
      await bringUp(frontEnd, guest);
      frontEnd.send(fe.SET_VRING_NUM, fe.state(1, 1));
      frontEnd.send(fe.SET_VRING_ADDR, fe.vringAddress(1, end - 16n, BASE, BASE + 16n));
      frontEnd.send(fe.SET_VRING_NUM, fe.state(1, 32768));
      expect(await frontEnd.ack(fe.SET_VRING_KICK, fe.u64(1), [guest.kick])).toBe(1n);
      expect([...harness.device.running.keys()]).toEqual([0]);
    }));

  test('a ring that two regions hold together is refused: they may lie far apart in the host', () =>
    survives(async (frontEnd) => {
      await bringUp(frontEnd, guest);
      const next = { ...region, guestAddress: region.guestAddress + MIB, userAddress: end };
      expect(await frontEnd.ack(fe.ADD_MEM_REG, fe.singleRegion(next), [guest.memory])).toBe(0n);
      frontEnd.send(fe.SET_VRING_NUM, fe.state(1, 256));
      expect(await frontEnd.ack(fe.SET_VRING_ADDR, fe.vringAddress(1, end - 16n, BASE, BASE + 0x2000n))).toBe(1n);
    }));
});

describe('messages whose frame is wrong end the connection, answer asked for or not', () => {
  const cases: readonly [name: string, bytes: Uint8Array, says: string][] = [
    ['version 0', fe.message(fe.GET_FEATURES, undefined, 0), 'version 0'],
    ['version 2', fe.message(fe.GET_FEATURES, undefined, 2), 'version 2'],
    ['version 3 with need_reply', fe.message(fe.SET_OWNER, undefined, 3 | fe.FLAG_NEED_REPLY), 'version 3'],
    ['the reply flag', fe.message(fe.GET_FEATURES, undefined, 1 | fe.FLAG_REPLY), 'marked as a reply'],
    [
      'the reply flag and need_reply',
      fe.message(fe.GET_FEATURES, undefined, 1 | fe.FLAG_REPLY | fe.FLAG_NEED_REPLY),
      'reply',
    ],
    ['a payload of 4097 bytes', fe.message(fe.SET_MEM_TABLE, undefined, 1, 4097), 'payload of 4097'],
    ['a payload of 4 GiB', fe.message(1000, undefined, 9, 0xffff_ffff), 'payload of 4294967295'],
    ['noise', new Uint8Array(64).fill(0xa5), 'request 2779096485'],
  ];

  test.each(cases)('%s', (_name, bytes, says) =>
    survives(async (frontEnd, harness) => {
      await bringUp(frontEnd, guest);
      frontEnd.sendBytes(bytes, [guest.kick, guest.memory]);
      await frontEnd.ended();
      await harness.idle();
      expect(harness.warnings).toEqual([expect.stringContaining(says)]);
    }),
  );

  test('a descriptor with every byte: at most 64 are held', () =>
    survives(async (frontEnd, harness) => {
      await frontEnd.settled();
      const held = openDescriptors();
      let most = 0;
      for (const byte of fe.message(fe.SET_MEM_TABLE, new Uint8Array(2056))) {
        if (!frontEnd.sendBytes(Uint8Array.of(byte), [guest.memory, guest.kick])) break;
        await new Promise((resolve) => setImmediate(resolve));
        most = Math.max(most, openDescriptors() - held);
      }
      await harness.idle();
      expect(most).toBeLessThanOrEqual(66);
      expect(harness.warnings).toEqual([expect.stringContaining('more than 64 descriptors')]);
    }));

  test('more descriptors in one message than are received', () =>
    survives(async (frontEnd, harness) => {
      await frontEnd.settled();
      frontEnd.send(
        fe.SET_MEM_TABLE,
        fe.memoryTable([region]),
        Array.from({ length: 100 }, () => guest.memory),
      );
      await frontEnd.ended();
      await harness.idle();
      expect(harness.warnings).toEqual([expect.stringMatching(/descriptors/)]);
    }));
});

describe('requests with a reply of their own that cannot be given', () => {
  test.each([
    ['GET_VRING_BASE of ring 5', fe.GET_VRING_BASE, fe.state(5, 0)],
    ['GET_VRING_BASE without payload', fe.GET_VRING_BASE, new Uint8Array(0)],
    ['GET_FEATURES with a payload', fe.GET_FEATURES, fe.u64(0)],
    ['GET_PROTOCOL_FEATURES with a payload', fe.GET_PROTOCOL_FEATURES, fe.u64(0)],
    ['GET_QUEUE_NUM with a payload', fe.GET_QUEUE_NUM, fe.u64(0)],
    ['GET_MAX_MEM_SLOTS with a payload', fe.GET_MAX_MEM_SLOTS, fe.u64(0)],
  ])('%s: the connection ends, no acknowledgement is mistaken for a value', (_name, request, payload) =>
    survives(async (frontEnd, harness) => {
      await bringUp(frontEnd, guest);
      frontEnd.send(request, payload, [], 1 | fe.FLAG_NEED_REPLY);
      expect(await frontEnd.receive()).toBeUndefined();
      await harness.idle();
      expect(harness.warnings).toHaveLength(1);
    }),
  );

  test.each([
    ['beyond the space', fe.configAccess(256, 1)],
    ['an offset that wraps', fe.configAccess(0xffff_ffff, 2)],
    ['a size that wraps', fe.configAccess(2, 0xffff_ffff, 0)],
    ['fewer bytes than it says', fe.configAccess(0, 8, 7)],
    ['more bytes than it says', fe.configAccess(0, 8, 9)],
    ['half a header', new Uint8Array(6)],
  ])('GET_CONFIG, %s: answered with no payload', (_name, payload) =>
    survives(async (frontEnd) => {
      expect((await frontEnd.ask(fe.GET_CONFIG, payload)).byteLength).toBe(0);
      await frontEnd.settled();
    }),
  );
});

describe('disorder', () => {
  test('a ring that has taken chains keeps its base: another is refused, and it goes on where it was', () =>
    survives(async (frontEnd, harness) => {
      await bringUp(frontEnd, guest);
      harness.device.nextAvailIdx = 3;
      expect(await frontEnd.ack(fe.SET_VRING_BASE, fe.state(0, 0))).toBe(1n);
      expect(harness.warnings).toEqual([expect.stringContaining("the base of ring 0 can't change while it runs")]);
      expect(harness.device.running.get(0)!.lastAvailIdx).toBe(3);
      expect(harness.device.enabled.get(0)).toBe(true);
    }));

  test('virtio 1.2 §5.1.2: without MQ there is no ring beyond the control queue', () =>
    survives(async (frontEnd, harness) => {
      frontEnd.send(fe.SET_FEATURES, fe.u64((1n << 17n) | (1n << 32n)));
      frontEnd.send(fe.SET_MEM_TABLE, fe.memoryTable([region]), [guest.memory]);
      startRing(frontEnd, guest, 2);
      startRing(frontEnd, guest, 4);
      await frontEnd.ended();
      await harness.idle();
      expect(harness.warnings).toEqual([expect.stringContaining('no ring 4 without VIRTIO_NET_F_MQ')]);
    }));

  test('a second kick that cannot start the ring leaves it stopped', () =>
    survives(async (frontEnd, harness) => {
      await bringUp(frontEnd, guest);
      const elsewhere = { ...region, guestAddress: 0, userAddress: 0n };
      expect(await frontEnd.ack(fe.SET_MEM_TABLE, fe.memoryTable([elsewhere]), [guest.memory])).toBe(0n);
      expect(await frontEnd.ack(fe.SET_VRING_KICK, fe.u64(0), [guest.kick])).toBe(1n);
      expect(await frontEnd.ack(fe.SET_MEM_TABLE, fe.memoryTable([region]), [guest.memory])).toBe(0n);
      expect(harness.device.running.size).toBe(0);
    }));

  test('GET_VRING_BASE twice: the same base', () =>
    survives(async (frontEnd, harness) => {
      await bringUp(frontEnd, guest);
      harness.device.nextAvailIdx = 3;
      for (let n = 0; n < 2; n++) {
        expect((await frontEnd.ask(fe.GET_VRING_BASE, fe.state(0, 0))).getUint32(4, true)).toBe(3);
      }
    }));

  test('the connection ends within every byte of a message', () =>
    survives(async (frontEnd, harness) => {
      const messages: [Uint8Array, number[]][] = [
        [fe.message(fe.SET_MEM_TABLE, fe.memoryTable([region])), [guest.memory]],
        [fe.message(fe.GET_CONFIG, fe.configAccess(0, 2)), []],
      ];
      await harness.leave(frontEnd);
      harness.device.calls.length = 0;
      for (const [bytes, fds] of messages) {
        for (let length = 1; length < bytes.length; length++) {
          const other = harness.connect();
          other.sendBytes(bytes.subarray(0, length), fds);
          await harness.leave(other);
          // Without a message there is nothing to reset.
          expect(harness.device.calls.splice(0)).toEqual([]);
        }
      }
      // A front end that comes back to fail the same way is logged once: header and payload of two messages.
      expect(harness.warnings).toHaveLength(4);
    }));

  test('the front end leaves while the data plane is busy', () =>
    survives(async (frontEnd, harness) => {
      frontEnd.send(fe.SET_MEM_TABLE, fe.memoryTable([region]), [guest.memory]);
      startRing(frontEnd, guest, 0);
      await harness.leave(frontEnd);
      expect(harness.device.calls).toContain('startQueue 0');
      expect(harness.warnings).toEqual([]);
    }));

  test('a flood of requests whose replies are not read: held back, not stored; the event loop goes on', () =>
    survives(async (frontEnd) => {
      const request = fe.message(fe.GET_CONFIG, fe.configAccess(0, 256));
      let stuck = 0;
      for (let sent = 0; sent < 200_000 && stuck < 50; sent++) {
        if (frontEnd.sendBytes(request)) continue;
        stuck++;
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      expect(stuck).toBe(50);
    }));

  test('a flood of requests leaves the event loop its turns', () =>
    survives(async (frontEnd) => {
      const count = 1000;
      frontEnd.sendBytes(fe.concat(...Array.from({ length: count }, () => fe.message(fe.SET_OWNER))));
      frontEnd.send(fe.GET_FEATURES);
      let turns = 0;
      while (addon.unixReceive(frontEnd.fd, new Uint8Array(20), 0, 20) === undefined) {
        turns++;
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect(turns).toBeGreaterThan(count / 32);
    }));
});
