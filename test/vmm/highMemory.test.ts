/** Memory below and above the hole that x86 has below 4 GiB, in windows of at most 4 GiB, which is all that one ArrayBuffer holds. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { hostMachineArch } from '../../arch/host.js';
import { createLogger } from '../../src/log.js';
import { addon } from '../../src/native/addon.js';
import { Network } from '../../src/network.js';
import { KvmGuest } from '../../src/vmm/kvmGuest.js';
import { ENGINE } from '../engineUnderTest.js';
import { bareMachine } from './bareMachine.js';
import { BareMetal, describeOnKvm } from './bareMetal.js';

const GIB = 2 ** 30;

describeOnKvm('a guest with a lot of memory', () => {
  let guests: BareMetal;
  let kernel: string;
  beforeAll(() => {
    guests = new BareMetal();
    kernel = guests.build('highMemory');
  });
  afterAll(() => guests[Symbol.dispose]());

  // Its memory ends there, the hole counted; 12 GiB have three windows above it.
  it.each([
    [2, 2],
    [3, 3],
    [3.5, 4.5],
    [7, 8],
    [12, 13],
  ])('of %d GiB uses all of it, and we see what it writes', async (gigabytes, end) => {
    const { machine, text } = await bareMachine(kernel, { cpus: 1, memoryMiB: gigabytes * 1024 });
    await using _ = machine;
    const total = machine.memory.reduce((sum, { size }) => sum + size, 0);
    expect(total).toBe(gigabytes * GIB);
    machine.start();
    expect(await machine.ended).toEqual({ kind: 'powerOff' });
    expect(text()).toMatch(/^words=\d+\nwrong=0\n$/);

    const last = end * GIB - 8;
    const word = (address: number): bigint => {
      const window = machine.memory.find(
        ({ guestAddress, size }) => address >= guestAddress && address < guestAddress + size,
      );
      if (window === undefined) throw new Error(`there is no memory at ${address}`);
      const { region, buffer } = addon.mapRegion(window.fd, window.fileOffset + address - window.guestAddress, 8);
      try {
        return new DataView(buffer).getBigUint64(0, true);
      } finally {
        addon.unmapRegion(region);
      }
    };
    const beforeHole = Math.min(3, gigabytes) * GIB - 8;
    const behindHole = gigabytes > 3 ? [4 * GIB] : [];
    for (const address of [beforeHole, ...behindHole, last]) expect(word(address)).toBe(BigInt(address));
  });

  it('of 12 GiB has a network card, whose workers map it too', async () => {
    await using network = await Network.create({ engine: ENGINE, log: createLogger('silent') });
    const guest = await KvmGuest.start({
      arch: hostMachineArch(),
      cpus: 1,
      memoryMiB: 12 * 1024,
      kernel,
      initramfs: kernel,
      commandLine: '',
      network: { network, queues: 1 },
      console: undefined,
    });
    expect((await guest.ended).message).toBe('the guest powered itself off');
    expect(guest.consoleTail).toContain('wrong=0');
    await guest.kill();
  });
});
