/**
 * Rubbish in every register, in every width, at every offset, from several vCPUs at once: nothing throws, nothing hangs,
 * the data plane and the platform are driven by their contracts, and a reset cures it all.
 */
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { openDescriptors } from '../../native/support.js';
import { ECAM, Harness, MEMORY, PCI_HOLE, place } from './harness.js';
import { type PciDriver, SLOT } from './pciDriver.js';

type Step = (harness: Harness) => void | Promise<void>;

/** Where the BAR is now, whatever the guest made of it. */
const barAt = ({ device }: Harness): number => device.config.barAddress(0) ?? PCI_HOLE;

const length = fc.constantFrom(1, 2, 4);
const value = fc.oneof(
  fc.constantFrom(0, 1, 2, 4, 8, 11, 15, 0xff, 0x100, 0xffff, 0x8000, 0xc000, 0xffff_ffff, MEMORY.guestAddress),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);
const inConfig = fc.nat(0xff);
/** The structures' own pages, then anything in the BAR. */
const inBar = fc.oneof(
  { arbitrary: fc.nat(0x3f), weight: 10 },
  { arbitrary: fc.nat(0x5f).map((n) => 0x4000 + n), weight: 4 },
  { arbitrary: fc.nat(0x1f).map((n) => 0x3000 + n), weight: 2 },
  { arbitrary: fc.nat(0x7fff), weight: 3 },
);

const configWrite: fc.Arbitrary<Step> = fc.tuple(inConfig, length, value).map(
  ([offset, width, v]) =>
    ({ bus }) =>
      bus.writeMemory(ECAM + (SLOT << 15) + (offset & -width), width, v),
);
const barWrite: fc.Arbitrary<Step> = fc.tuple(inBar, length, value).map(
  ([offset, width, v]) =>
    (harness) =>
      harness.bus.writeMemory(barAt(harness) + offset, width, v),
);
const portWrite: fc.Arbitrary<Step> = fc
  .tuple(
    fc.integer({ min: 0xcf4, max: 0xd03 }),
    length,
    fc.oneof(
      value,
      fc.nat(0xff).map((n) => (0x8000_0000 | (SLOT << 11) | n) >>> 0),
    ),
  )
  .map(
    ([port, width, v]) =>
      ({ ports }) =>
        ports.write(port, width, v),
  );
const anywhere: fc.Arbitrary<Step> = fc.tuple(fc.maxSafeNat(), length, value).map(
  ([address, width, v]) =>
    ({ bus }) =>
      bus.writeMemory(address, width, v),
);
const move: fc.Arbitrary<Step> = fc.tuple(value, value).map(([low, high]) => ({ driver }) => {
  void driver.setConfig(0x10, 4, low);
  void driver.setConfig(0x14, 4, high & 0xff);
  return driver.setConfig(4, 2, 6);
});
const sane: fc.Arbitrary<Step> = fc.constantFrom<Step>(
  (harness) => cure(harness),
  async (harness) => {
    await cure(harness);
    // Other vCPUs may make the device refuse what this one asks for.
    await harness.bringUp().catch(() => undefined);
  },
  (harness) => harness.driver.setQueue(0, place(0)),
  ({ dataPlane }) => {
    for (const queue of dataPlane.running.keys()) return dataPlane.onQueueBroken(queue, 'a rule');
  },
  ({ device }) => device.setLink(device.deviceStatus % 2 === 0),
);
const read: fc.Arbitrary<Step> = fc.tuple(inConfig, inBar, length).map(([config, bar, width]) => (harness) => {
  const { bus, ports } = harness;
  for (const found of [
    bus.readMemory(ECAM + (SLOT << 15) + (config & -width), width),
    bus.readMemory(barAt(harness) + bar, width),
    ports.read(0xcf8 + (bar & 7), width),
  ]) {
    expect(Number.isInteger(found) && found >= 0 && found < 2 ** (8 * width)).toBe(true);
  }
});

const story = fc.array(
  fc.oneof(
    { arbitrary: barWrite, weight: 12 },
    { arbitrary: configWrite, weight: 6 },
    { arbitrary: portWrite, weight: 2 },
    { arbitrary: anywhere, weight: 1 },
    { arbitrary: move, weight: 1 },
    { arbitrary: sane, weight: 3 },
    { arbitrary: read, weight: 4 },
  ),
  { minLength: 5, maxLength: 80 },
);

/** What firmware and a driver do at first: place the BAR, switch memory on, MSI-X off, reset. */
async function cure(harness: Harness): Promise<void> {
  const { bus, driver } = harness;
  await driver.setConfig(4, 2, 0);
  await driver.setConfig(driver.msix + 2, 2, 0);
  bus.assignBars(PCI_HOLE, PCI_HOLE + 0x10_0000);
  await driver.setConfig(4, 2, 6);
  await driver.setStatus(0);
}

function readEverything({ bus, driver }: { bus: Harness['bus']; driver: PciDriver }): void {
  for (const width of [1, 2, 4]) {
    for (let offset = 0; offset + width <= 0x100; offset++) bus.readMemory(ECAM + (SLOT << 15) + offset, width);
    for (let offset = 0; offset < 0x8000; offset += offset % 0x1000 < 0x60 ? 1 : 61)
      bus.readMemory(driver.bar(0) + offset, width);
  }
}

it('rubbish in every register never breaks the device beyond a reset', async () => {
  await using warmUp = await Harness.open();
  readEverything(warmUp);
  const before = openDescriptors();
  let ran = 0;
  let needed = 0;
  await fc.assert(
    fc.asyncProperty(story, fc.boolean(), async (steps, atOnce) => {
      await using harness = await Harness.open();
      // The driver's own view of where things are holds whatever happens: capabilities are read-only.
      const writes: (void | Promise<void>)[] = [];
      for (const step of steps) {
        const write = step(harness);
        if (atOnce) writes.push(write);
        else await write;
      }
      await Promise.all(writes);
      ran += harness.dataPlane.calls.filter((call) => call.startsWith('startQueue')).length;
      if ((harness.device.deviceStatus & 64) !== 0) needed++;
      await cure(harness);
      readEverything(harness);
      expect(harness.driver.status).toBe(0);
      expect([harness.dataPlane.running.size, harness.platform.asserted]).toEqual([0, false]);
      await harness.bringUp();
      expect([harness.driver.status, harness.dataPlane.running.size]).toEqual([15, 5]);
      expect(harness.platform.messages.routes.size).toBe(6);
      expect([...harness.platform.doorbells!.at.keys()]).toEqual(
        [0, 1, 2, 3, 4].map((n) => harness.driver.notifyAddress(n)),
      );
      // Words of the fakes when they are driven against their contracts.
      const breaches = harness.warnings.filter((text) =>
        /is connected|is not connected|doorbell|runs already|does not run|had ended|out of memory or/.test(text),
      );
      expect(breaches).toEqual([]);
    }),
    { numRuns: 400 },
  );
  expect(openDescriptors()).toBe(before);
  expect(ran).toBeGreaterThan(100);
  expect(needed).toBeGreaterThan(10);
});

it('every value in every byte of the common configuration, one by one', async () => {
  await using harness = await Harness.open();
  const { bus, driver } = harness;
  for (let offset = 0; offset < 0x40; offset++) {
    for (let byte = 0; byte < 256; byte++) {
      await bus.writeMemory(PCI_HOLE + offset, 1, byte);
      expect(bus.readMemory(PCI_HOLE + offset, 1)).toBeLessThan(256);
    }
  }
  await driver.setStatus(0);
  await harness.bringUp();
  expect(driver.status).toBe(15);
});
