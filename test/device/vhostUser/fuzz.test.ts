/** Random conversations: whatever a front end says in whatever order, the data plane is driven by its contract and nothing leaks. */
import * as fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { disarm, guest, shrunk } from './attacks.js';
import * as fe from './frontEnd.js';
import { Harness, OFFERED } from './harness.js';
import { openDescriptors } from '../../native/support.js';

afterAll(disarm);

const { region } = guest;
const second: fe.Region = { ...region, guestAddress: 0x8000_0000, userAddress: 0x1000_0000n };
const overlapping: fe.Region = { ...region, guestAddress: region.guestAddress + 4096, userAddress: 0x2000_0000n };

const ring = fc.constantFrom(0, 1, 2, 3, 4, 5, 255);
const number = fc.constantFrom(0, 1, 2, 3, 256, 32768, 65535, 65536, 0xffff_ffff);
const aRegion = fc.constantFrom(region, region, second, overlapping, { ...region, size: 8192 });
const features = fc.constantFrom(0n, OFFERED, OFFERED | fe.F_PROTOCOL_FEATURES, 1n << 32n, 1n << 17n, 1n << 63n);
const aFile = fc.constantFrom(guest.memory, guest.memory, guest.memory, shrunk, guest.kick);
const anEvent = fc.constantFrom(guest.kick, guest.call, guest.err, guest.memory);

interface Step {
  readonly request: number;
  readonly payload: Uint8Array;
  readonly fds: readonly number[];
}

const step = (request: number, payload: Uint8Array, fds: readonly number[] = []): Step => ({ request, payload, fds });

const VRING_STATE = [fe.SET_VRING_NUM, fe.SET_VRING_BASE, fe.GET_VRING_BASE, fe.SET_VRING_ENABLE];
const VRING_FD = [fe.SET_VRING_KICK, fe.SET_VRING_CALL, fe.SET_VRING_ERR];

/** Requests that make sense often enough for rings to start. */
const sensible: fc.Arbitrary<Step> = fc.oneof(
  features.map((bits) => step(fe.SET_FEATURES, fe.u64(bits))),
  fc.tuple(aRegion, aFile).map(([one, file]) => step(fe.SET_MEM_TABLE, fe.memoryTable([one]), [file])),
  fc.tuple(aRegion, aFile).map(([one, file]) => step(fe.ADD_MEM_REG, fe.singleRegion(one), [file])),
  aRegion.map((one) => step(fe.REM_MEM_REG, fe.singleRegion(one))),
  fc
    .tuple(fc.constantFrom(...VRING_STATE), ring, number)
    .map(([request, index, num]) => step(request, fe.state(index, num))),
  fc.tuple(ring, fc.constantFrom(256, 1)).map(([index, num]) => step(fe.SET_VRING_NUM, fe.state(index, num))),
  ring.map((index) => step(fe.SET_VRING_ADDR, guest.ringAddress(index))),
  fc
    .tuple(ring, fc.constantFrom(0n, 8n, 0x1000n, 1n << 40n))
    .map(([index, off]) =>
      step(fe.SET_VRING_ADDR, fe.vringAddress(index, region.userAddress + off, region.userAddress, region.userAddress)),
    ),
  fc
    .tuple(fc.constantFrom(...VRING_FD), ring, anEvent)
    .map(([request, index, fd]) => step(request, fe.u64(index), [fd])),
  fc.tuple(fc.constantFrom(...VRING_FD), ring).map(([request, index]) => step(request, fe.u64(index | fe.NO_FD))),
  fc.constantFrom(step(fe.RESET_DEVICE, new Uint8Array(0)), step(fe.RESET_OWNER, new Uint8Array(0))),
);

const senseless: fc.Arbitrary<Step> = fc
  .tuple(fc.nat(45), fc.uint8Array({ maxLength: 60 }), fc.array(anEvent, { maxLength: 3 }))
  .map(([request, payload, fds]) => step(request, payload, fds));

/** All that a ring needs to start, if there is memory. */
const wholeRing: fc.Arbitrary<Step[]> = fc
  .constantFrom(0, 1, 2, 4)
  .map((index) => [
    step(fe.SET_VRING_NUM, fe.state(index, 256)),
    step(fe.SET_VRING_ADDR, guest.ringAddress(index)),
    step(fe.SET_VRING_KICK, fe.u64(index), [guest.kick]),
    step(fe.SET_VRING_ENABLE, fe.state(index, 1)),
  ]);

const conversation = fc
  .array(
    fc.oneof(
      { arbitrary: sensible.map((one) => [one]), weight: 30 },
      { arbitrary: wholeRing, weight: 10 },
      { arbitrary: senseless.map((one) => [one]), weight: 1 },
    ),
    { minLength: 5, maxLength: 50 },
  )
  .map((steps) => steps.flat());

test('random conversations never break the contract with the data plane, and leave nothing behind', async () => {
  await using harness = Harness.started();
  let started = 0;
  await fc.assert(
    fc.asyncProperty(conversation, fc.boolean(), async (steps, forgiving) => {
      const before = openDescriptors();
      harness.device.calls.length = harness.warnings.length = 0;
      const frontEnd = harness.connect();
      frontEnd.send(fe.SET_PROTOCOL_FEATURES, fe.u64(fe.PROTOCOL_F_REPLY_ACK));
      const flags = forgiving ? 1 | fe.FLAG_NEED_REPLY : 1;
      for (const { request, payload, fds } of steps) frontEnd.send(request, payload, fds, flags);
      frontEnd.send(fe.GET_FEATURES);
      while (![fe.GET_FEATURES, undefined].includes((await frontEnd.receive())?.request));
      await harness.leave(frontEnd);
      started += harness.device.calls.filter((call) => call.startsWith('startQueue')).length;
      // Words of the fake data plane when it is called against its contract.
      const breaches = harness.warnings.filter((text) =>
        /runs already|does not run|had ended|out of memory|beyond/.test(text),
      );
      expect(breaches.filter((text) => !text.includes('bytes of a file'))).toEqual([]);
      expect(harness.device.running.size).toBe(0);
      expect(openDescriptors()).toBe(before);
    }),
    { numRuns: 300 },
  );
  expect(started).toBeGreaterThan(20);
});
