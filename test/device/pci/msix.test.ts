/** MSI-X (PCI 3.0 §6.8.2, §6.8.3) and a virtio device's use of it (virtio 1.2 §4.1.5.1). */
import { describe, expect, it } from 'vitest';
import { addon } from '../../../src/native/addon.js';
import { Harness, place } from './harness.js';
import { CFG_ISR, CONFIG_MSIX_VECTOR, QUEUE_MSIX_VECTOR, QUEUE_SELECT } from './pciDriver.js';

const NO_VECTOR = 0xffff;
const ADDRESS = 0xfee0_0000n;

/** Signals a vector as a worker does. */
function signal({ platform }: Harness, vector: number): void {
  addon.eventfdSignal(platform.messages.eventfd(vector));
}

/** Data of the messages that went out. */
function sent({ platform }: Harness): number[] {
  return platform.messages.take().map(({ data }) => data);
}

describe('§6.8.2.3 the capability', () => {
  it('has one vector for each queue and one for the configuration, table and pending bits in BAR 0', async () => {
    for (const pairs of [1, 2, 8, 64]) {
      await using harness = await Harness.open({ pairs });
      const { driver } = harness;
      expect(driver.config(driver.msix + 2, 2)).toBe(2 * pairs + 1);
      const [table, pending] = [driver.config(driver.msix + 4, 4), driver.config(driver.msix + 8, 4)];
      expect([table & 7, pending & 7]).toEqual([0, 0]);
      expect((pending & ~7) - (table & ~7)).toBeGreaterThanOrEqual(16 * (2 * pairs + 2));
    }
  });

  it('of Message Control only Enable and Function Mask can be written', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    for (let offset = 0; offset < 12; offset++) await driver.setConfig(driver.msix + offset, 1, 0xff);
    expect(driver.config(driver.msix, 4) & 0xffff_00ff).toBe(0xc005_0011 & ~0);
    expect(driver.config(driver.msix + 4, 4)).toBe(0x4000);
  });
});

describe('§6.8.2.6-9 the table', () => {
  it('all vectors are masked at first; every field takes every width', async () => {
    await using harness = await Harness.open();
    const { driver, bus } = harness;
    const at = driver.tableAddress + 16;
    expect(bus.readMemory(at + 12, 4)).toBe(1);
    for (let n = 0; n < 12; n++) void bus.writeMemory(at + n, 1, 0x10 + 4 * n);
    expect([bus.readMemory(at, 4), bus.readMemory(at + 4, 4), bus.readMemory(at + 10, 2)]).toEqual([
      0x1c18_1410, 0x2c28_2420, 0x3c38,
    ]);
  });

  it('addresses are dwords, and of Vector Control only the mask bit is there', async () => {
    await using harness = await Harness.open();
    const { driver, bus } = harness;
    driver.setVector(0, 0xffff_ffff, 0xffff_ffff, 0xffff_fffe);
    expect([0, 4, 8, 12].map((n) => bus.readMemory(driver.tableAddress + n, 4))).toEqual([
      0xffff_fffc, 0, 0xffff_ffff, 0,
    ]);
  });

  it('behind the last vector nothing is there', async () => {
    await using harness = await Harness.open();
    const { driver, bus } = harness;
    driver.setVector(6, 0xfee0_0000, 1, 0);
    expect(bus.readMemory(driver.tableAddress + 16 * 6, 4)).toBe(0);
    void bus.writeMemory(driver.tableAddress + 16 * 5 + 14, 4, 0xffff_ffff);
    expect(bus.readMemory(driver.tableAddress + 16 * 6, 4)).toBe(0);
  });
});

describe('§6.8.3 sending', () => {
  it("a signal becomes the vector's own message", async () => {
    await using harness = await Harness.open();
    await harness.driver.enableMsix();
    signal(harness, 2);
    expect(harness.platform.messages.take()).toEqual([{ address: ADDRESS, data: 0x42 }]);
    expect(sent(harness)).toEqual([]);
  });

  it("§6.8.3.4 a masked vector's message waits as its pending bit, and goes out once when it is unmasked", async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    await driver.enableMsix();
    driver.setMask(2, true);
    signal(harness, 2);
    signal(harness, 2);
    signal(harness, 3);
    expect([driver.pending(2), driver.pending(3), sent(harness)]).toEqual([true, false, [0x43]]);
    driver.setMask(2, false);
    expect([driver.pending(2), sent(harness)]).toEqual([false, [0x42]]);
  });

  it('§6.8.3.4 Function Mask masks all, and leaves their own mask bits as they are', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    await driver.enableMsix();
    driver.setMask(1, true);
    await driver.setConfig(driver.msix + 2, 2, 0xc000);
    for (const vector of [0, 1, 2]) signal(harness, vector);
    expect([sent(harness), [0, 1, 2, 3].map((vector) => driver.pending(vector))]).toEqual([
      [],
      [true, true, true, false],
    ]);
    await driver.setConfig(driver.msix + 2, 2, 0x8000);
    expect([sent(harness), driver.pending(1)]).toEqual([[0x40, 0x42], true]);
    driver.setMask(1, false);
    expect(sent(harness)).toEqual([0x41]);
  });

  it('§6.8.3.3 nothing goes out while MSI-X is disabled', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    await driver.enableMsix();
    await driver.setConfig(driver.msix + 2, 2, 0);
    signal(harness, 1);
    expect([sent(harness), driver.pending(1)]).toEqual([[], true]);
  });

  it('§6.2.2 nor while the function is no bus master: a message is a write to memory', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    await driver.enableMsix();
    await driver.setConfig(4, 2, 2);
    signal(harness, 1);
    expect(sent(harness)).toEqual([]);
    await driver.setConfig(4, 2, 6);
    expect(sent(harness)).toEqual([0x41]);
  });

  it('a vector can be remapped while it is unmasked; nothing is lost, nothing goes to the old place', async () => {
    await using harness = await Harness.open();
    const { driver, bus } = harness;
    await driver.enableMsix();
    void bus.writeMemory(driver.tableAddress + 16, 4, 0xfee0_2000);
    void bus.writeMemory(driver.tableAddress + 16 + 8, 4, 0x99);
    signal(harness, 1);
    expect(harness.platform.messages.take()).toEqual([{ address: 0xfee0_2000n, data: 0x99 }]);
    void bus.writeMemory(driver.tableAddress + 20, 4, 0x1);
    signal(harness, 1);
    expect(harness.platform.messages.take()).toEqual([{ address: 0x1_fee0_2000n, data: 0x99 }]);
  });

  it("a message that can't be routed leaves the vector pending, is told, and is tried again", async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    await driver.setConfig(driver.msix + 2, 2, 0x8000);
    harness.platform.messages.refuse = true;
    driver.setVector(1, 0x1234_5678, 7, 0);
    signal(harness, 1);
    expect([driver.pending(1), harness.warnings.length]).toEqual([true, 1]);
    expect(harness.platform.faults.refusedMessages).toBe(1);
    harness.platform.messages.refuse = false;
    driver.setVector(1, 0xfee0_0000, 7, 0);
    expect(sent(harness)).toEqual([7]);
  });

  it('the pending bits are read-only', async () => {
    await using harness = await Harness.open();
    const { driver, bus } = harness;
    signal(harness, 0);
    for (const value of [0xffff_ffff, 0]) {
      void bus.writeMemory(driver.pendingAddress, 4, value);
      expect([bus.readMemory(driver.pendingAddress, 4), bus.readMemory(driver.pendingAddress + 4, 4)]).toEqual([1, 0]);
    }
  });
});

describe('virtio 1.2 §4.1.5.1.2 mapping of events to vectors', () => {
  it('is NO_VECTOR at first and after a reset', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    const vectors = async (): Promise<number[]> => {
      const found = [driver.common(CONFIG_MSIX_VECTOR, 2)];
      for (let queue = 0; queue < 5; queue++) {
        await driver.setCommon(QUEUE_SELECT, 2, queue);
        found.push(driver.common(QUEUE_MSIX_VECTOR, 2));
      }
      return found;
    };
    expect(await vectors()).toEqual(Array(6).fill(NO_VECTOR));
    await harness.bringUp();
    expect(await vectors()).toEqual([0, 1, 2, 3, 4, 5]);
    await driver.setStatus(0);
    expect(await vectors()).toEqual(Array(6).fill(NO_VECTOR));
  });

  it('takes any vector for any event, and reads NO_VECTOR back for one that there is not', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    for (const register of [CONFIG_MSIX_VECTOR, QUEUE_MSIX_VECTOR]) {
      for (let vector = 0; vector < 6; vector++) {
        await driver.setCommon(register, 2, vector);
        expect(driver.common(register, 2)).toBe(vector);
      }
      for (const vector of [6, 7, 0x800, 0xfffe, NO_VECTOR]) {
        await driver.setCommon(register, 2, 3);
        await driver.setCommon(register, 2, vector);
        expect(driver.common(register, 2)).toBe(NO_VECTOR);
      }
    }
  });

  it("the queue's call eventfd is its vector's, all may share one, and NO_VECTOR is no interrupt", async () => {
    await using harness = await Harness.open();
    const { driver, dataPlane, platform } = harness;
    await driver.enableMsix();
    await driver.negotiate(await driver.offeredFeatures());
    for (const queue of [0, 1]) await driver.setQueue(queue, { ...place(queue), vector: 5 });
    await driver.setQueue(2, place(2));
    await driver.setStatus(15);
    const call = (queue: number): number => dataPlane.running.get(queue)!.callFd;
    expect([call(0), call(1), call(2)]).toEqual([platform.messages.eventfd(5), platform.messages.eventfd(5), -1]);
  });

  it('is changed while the queue runs', async () => {
    await using harness = await Harness.open();
    const { driver, dataPlane, platform } = harness;
    await harness.bringUp();
    await driver.setCommon(QUEUE_SELECT, 2, 3);
    for (const [vector, fd] of [
      [0, platform.messages.eventfd(0)],
      [NO_VECTOR, -1],
      [2, platform.messages.eventfd(2)],
    ] as const) {
      await driver.setCommon(QUEUE_MSIX_VECTOR, 2, vector);
      expect(dataPlane.running.get(3)!.callFd).toBe(fd);
    }
  });

  it('a configuration change goes to its vector, NO_VECTOR to none; ISR has its bit in any case (§4.1.4.5.1)', async () => {
    await using harness = await Harness.open();
    const { driver, device } = harness;
    await harness.bringUp();
    device.setLink(false);
    expect([sent(harness), driver.isr(), driver.isr()]).toEqual([[0x40], 2, 0]);
    await driver.setCommon(CONFIG_MSIX_VECTOR, 2, NO_VECTOR);
    device.setLink(true);
    expect([sent(harness), driver.isr()]).toEqual([[], 2]);
    expect(harness.platform.levels).toEqual([]);
    expect(driver.structures.get(CFG_ISR)!.length).toBe(1);
  });

  it('§2.4.2 no signal from before a reset comes out of a vector that was masked', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    await harness.bringUp();
    driver.setMask(1, true);
    signal(harness, 1);
    await driver.setStatus(0);
    expect(driver.pending(1)).toBe(false);
    driver.setMask(1, false);
    expect(sent(harness)).toEqual([]);
  });
});
