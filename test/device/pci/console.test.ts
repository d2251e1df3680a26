/** The console device by clause (virtio 1.2 §5.3), over the PCI transport. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import * as fc from 'fast-check';
import {
  CONTROL_RECEIVE,
  DEVICE_ADD,
  DEVICE_READY,
  PORT_OPEN,
  PORT_READY,
  RECEIVE,
  TRANSMIT,
  VIRTIO_CONSOLE_F_MULTIPORT,
} from '../../../device/console.js';
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_VERSION_1 } from '../../../device/features.js';
import { BUFFER, ConsoleGuest, INDIRECT, SIZE } from './consoleGuest.js';
import { NUM_QUEUES, QUEUE_SELECT, QUEUE_SIZE } from './pciDriver.js';
import { until } from '../../until.js';

const ALL = VIRTIO_F_VERSION_1 | VIRTIO_CONSOLE_F_MULTIPORT | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC;
const NEEDS_RESET = 64;

let guest: ConsoleGuest;
beforeEach(() => {
  guest = new ConsoleGuest();
});
afterEach(() => guest[Symbol.asyncDispose]());

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');
const input = (): string => Buffer.concat(guest.received()).toString('latin1');

/** As Linux does it: buffers, then the port by control messages. */
async function openPort(): Promise<void> {
  await guest.start(ALL);
  guest.post(CONTROL_RECEIVE);
  guest.post(RECEIVE);
  guest.tell(DEVICE_READY, 1);
  guest.tell(PORT_READY, 1);
  guest.tell(PORT_OPEN, 1);
  await until(() => guest.queues[CONTROL_RECEIVE]!.usedCount() === 2);
}

describe('virtio 1.2 §5.3.3, §5.3.4: features and configuration', () => {
  it('is a console with one port and four queues (§5.3.1, §5.3.2)', async () => {
    expect(guest.driver.config(0, 4)).toBe(0x1043_1af4);
    await guest.driver.enable();
    expect(await guest.driver.offeredFeatures()).toBe(ALL);
    expect(guest.driver.common(NUM_QUEUES, 2)).toBe(4);
    expect(guest.driver.deviceConfig(4, 4)).toBe(1);
  });

  it('has the port’s queues alone without MULTIPORT (§5.3.2)', async () => {
    await guest.start(VIRTIO_F_VERSION_1, [RECEIVE, TRANSMIT]);
    const sizes = [];
    for (const queue of [0, 1, 2, 3]) {
      await guest.driver.setCommon(QUEUE_SELECT, 2, queue);
      sizes.push(guest.driver.common(QUEUE_SIZE, 2));
    }
    expect(sizes).toEqual([SIZE, SIZE, 0, 0]);
  });

  it('refuses a driver without VERSION_1, and one that takes what it was not offered (§6.1, §2.2.2)', async () => {
    await guest.driver.enable();
    expect(await guest.driver.negotiate(VIRTIO_CONSOLE_F_MULTIPORT)).toBe(false);
    expect(await guest.driver.negotiate(VIRTIO_F_VERSION_1 | 1n)).toBe(false);
    expect(await guest.driver.negotiate(ALL)).toBe(true);
  });
});

describe('virtio 1.2 §5.3.6.2: control messages', () => {
  it('adds its port to a driver that is ready, and opens it once the driver has it', async () => {
    await guest.start(ALL);
    guest.post(CONTROL_RECEIVE);
    guest.tell(DEVICE_READY, 1);
    await until(() => guest.queues[CONTROL_RECEIVE]!.usedCount() === 1);
    expect(guest.told()).toEqual([[0, DEVICE_ADD, 1]]);
    guest.tell(PORT_READY, 1);
    await until(() => guest.queues[CONTROL_RECEIVE]!.usedCount() === 1);
    expect(guest.told()).toEqual([[0, PORT_OPEN, 1]]);
  });

  it('waits for buffers with what it has to say', async () => {
    await guest.start(ALL);
    guest.tell(DEVICE_READY, 1);
    await until(() => guest.queues[3]!.usedCount() === 1);
    guest.post(CONTROL_RECEIVE);
    await until(() => guest.queues[CONTROL_RECEIVE]!.usedCount() === 1);
    expect(guest.told()).toEqual([[0, DEVICE_ADD, 1]]);
  });

  it('keeps one answer for a driver that asks again and again without a buffer for it', async () => {
    await guest.start(ALL);
    for (let n = 1; n <= 3; n++) {
      guest.tell(DEVICE_READY, 1);
      await until(() => guest.queues[3]!.usedCount() === n);
    }
    guest.post(CONTROL_RECEIVE);
    await until(() => guest.queues[CONTROL_RECEIVE]!.usedCount() > 0);
    expect(guest.told()).toEqual([[0, DEVICE_ADD, 1]]);
  });

  it('adds nothing for a driver that failed, and takes a message that is too short for none', async () => {
    await guest.start(ALL);
    guest.post(CONTROL_RECEIVE);
    guest.tell(DEVICE_READY, 0);
    guest.tell(PORT_READY, 0);
    guest.write(Buffer.alloc(7), { queue: 3 });
    await until(() => guest.queues[3]!.usedCount() === 3);
    expect(guest.told()).toEqual([]);
  });

  it('keeps input back until the driver opens the port', async () => {
    await guest.start(ALL);
    guest.post(RECEIVE);
    guest.device.send(bytes('early'));
    expect(guest.queues[RECEIVE]!.usedCount()).toBe(0);
    guest.tell(PORT_OPEN, 1);
    await until(() => guest.queues[RECEIVE]!.usedCount() > 0);
    expect(input()).toBe('early');
    guest.tell(PORT_OPEN, 0);
    await until(() => guest.queues[3]!.usedCount() === 2);
    guest.device.send(bytes('closed'));
    expect(input()).toBe('');
  });
});

describe('virtio 1.2 §5.3.6: the port', () => {
  it('hands what the driver writes to the host, whatever it is cut into (§2.7.4.1)', async () => {
    await openPort();
    guest.write(bytes('one,'));
    guest.write(bytes('two,'), { piece: 1 });
    guest.write(bytes('three'), { piece: 2, indirect: true });
    await until(() => guest.queues[TRANSMIT]!.usedCount() === 3);
    expect(guest.output).toBe('one,two,three');
    expect(guest.queues[TRANSMIT]!.takeUsed()).toBe(0);
    expect(guest.queues[TRANSMIT]!.usedLength).toBe(0);
  });

  it('fills buffers one after the other, and says how far (§2.7.8)', async () => {
    await openPort();
    const long = 'x'.repeat(2 * BUFFER + 10);
    guest.device.send(bytes(long));
    expect(guest.received().map(({ length }) => length)).toEqual([BUFFER, BUFFER, 10]);
  });

  it('keeps what no buffer is left for, and goes on when there are more', async () => {
    await openPort();
    const long = Array.from({ length: 3 * SIZE * BUFFER }, (_, n) => String.fromCharCode(97 + (n % 26))).join('');
    guest.device.send(bytes(long));
    let got = input();
    expect(got).toHaveLength(SIZE * BUFFER);
    await until(() => (got += input()).length === long.length);
    expect(got).toBe(long);
  });

  it('is open from the start without MULTIPORT', async () => {
    await guest.start(VIRTIO_F_VERSION_1, [RECEIVE, TRANSMIT]);
    guest.post(RECEIVE);
    guest.device.send(bytes('in'));
    await until(() => guest.queues[RECEIVE]!.usedCount() > 0);
    expect(input()).toBe('in');
    guest.write(bytes('out'));
    await until(() => guest.output === 'out');
  });

  it('interrupts for what it used, by the queue’s vector, unless the driver wants none (§2.7.7)', async () => {
    await openPort();
    guest.platform.messages.take();
    guest.queues[RECEIVE]!.enableInterrupts(0);
    guest.device.send(bytes('a'));
    expect(guest.platform.messages.take().map(({ data }) => data)).toEqual([0x40 + RECEIVE + 1]);
    input();
    guest.queues[RECEIVE]!.disableInterrupts();
    guest.device.send(bytes('b'));
    expect(guest.platform.messages.take()).toEqual([]);
    expect(input()).toBe('b');
  });

  it('forgets what was under way at a reset, and serves the next driver', async () => {
    await guest.start(ALL);
    guest.device.send(bytes('lost'));
    await openPort();
    guest.device.send(bytes('new'));
    expect(input()).toBe('new');
    guest.write(bytes('out'));
    await until(() => guest.output === 'out');
  });

  it('loses and swaps nothing, whatever is sent in whatever pieces', async () => {
    await openPort();
    const pieces = fc.array(fc.uint8Array({ minLength: 1, maxLength: 600 }), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(pieces, async (chunks) => {
        const all = Buffer.concat(chunks);
        for (const chunk of chunks) guest.device.send(chunk);
        let got = Buffer.concat(guest.received());
        await until(() => (got = Buffer.concat([got, ...guest.received()])).length === all.length);
        expect(got.equals(all)).toBe(true);
        guest.output = '';
        let sent = '';
        for (const chunk of chunks.map((each) => each.subarray(0, BUFFER))) {
          sent += Buffer.from(chunk).toString('latin1');
          guest.write(chunk);
          await until(() => guest.output === sent);
          while (guest.queues[TRANSMIT]!.takeUsed() >= 0);
        }
      }),
      { numRuns: 50 },
    );
  });
});

describe('a driver that breaks the rules', () => {
  it('gets a chain outside of its memory, or of over a MiB, back unread, and is served on', async () => {
    await openPort();
    const ring = guest.queues[TRANSMIT]!;
    ring.beginChain(false);
    ring.addBuffer(guest.memory.shape.size, 16, false);
    ring.endChain();
    ring.beginChain(true);
    for (let n = 0; n < INDIRECT; n++) ring.addBuffer(0, guest.memory.shape.size, false);
    ring.endChain();
    guest.write(bytes('after'));
    await until(() => ring.usedCount() === 3);
    expect(INDIRECT * guest.memory.shape.size).toBeGreaterThan(1 << 20);
    expect(guest.output).toBe('after');
  });

  it('breaks its queue by an available index too far ahead, and is told to reset (§2.1.2)', async () => {
    await openPort();
    const avail = guest.queues[TRANSMIT]!.layout.availRing / 2 + 1;
    guest.memory.u16[avail] = SIZE + 1;
    void guest.bus.writeMemory(guest.driver.notifyAddress(TRANSMIT), 2, TRANSMIT);
    await until(() => (guest.driver.status & NEEDS_RESET) !== 0);
    expect(guest.warnings.join()).toMatch(/queue 1 is stopped: the available index is further ahead/);
    await openPort();
    guest.write(bytes('again'));
    await until(() => guest.output === 'again');
  });

  it('leaves others their turn, though it adds a chain for each that is taken', async () => {
    await openPort();
    const ring = guest.queues[TRANSMIT]!;
    let chains = 0;
    guest.onOutput = () => {
      chains++;
      while (ring.takeUsed() >= 0);
      guest.write(bytes('x'));
    };
    guest.write(bytes('x'));
    await until(() => chains > 3 * SIZE);
    expect(chains).toBeGreaterThan(3 * SIZE);
    guest.onOutput = () => undefined;
  });
});
