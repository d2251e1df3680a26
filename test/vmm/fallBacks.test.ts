/** Machines without the eventfds of KVM: the same guest, by exits and by ioctl. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { x86_64Machine } from '../../arch/x86_64/machine.js';
import { KvmGuest } from '../../src/vmm/kvmGuest.js';
import { describeOnKvm } from './bareMetal.js';
import { GuestNetwork } from './networkGuest.js';

const WITHOUT = [
  { irqfd: true, ioeventfd: false },
  { irqfd: false, ioeventfd: true },
  { irqfd: false, ioeventfd: false },
];
const DONE = { end: { kind: 'powerOff' }, verdict: 'done' };

describeOnKvm('a bare-metal guest without some of KVM’s eventfds (B3, B4)', () => {
  let guest: GuestNetwork;

  beforeAll(async () => {
    guest = await GuestNetwork.create();
  });

  afterAll(async () => {
    await guest[Symbol.asyncDispose]();
  });

  const counted = (used: boolean): unknown => (used ? expect.toSatisfy((count: number) => count > 0) : 0);

  it.each([{ irqfd: true, ioeventfd: true }, ...WITHOUT])(
    'ARP, DHCP and TCP on both pairs; only what is missing is an exit or an ioctl: %j',
    async (paths) => {
      const { events, kicks, ...outcome } = await guest.run('traffic', paths);
      expect(outcome).toMatchObject(DONE);
      expect(events).toEqual({
        doorbellExits: counted(!paths.ioeventfd),
        signalledMessages: counted(!paths.irqfd),
        lostMessages: 0,
        lineChanges: 0,
      });
      expect(kicks).toBeGreaterThan(0);
    },
  );

  describe.each(WITHOUT)('irqfd $irqfd, ioeventfd $ioeventfd', (paths) => {
    it.each(['mask', 'functionMask', 'remap', 'moveBar', 'reset', 'nobody', 'needsReset', 'rubbishRegisters'])(
      '%s',
      async (scenario) => {
        expect(await guest.run(scenario, paths)).toMatchObject(DONE);
      },
    );
  });

  it.each([
    ['KVM_IRQFD, without resampling', { resample: false }],
    ['KVM_SIGNAL_MSI', { irqfd: false }],
  ])('INTx by KVM_IRQ_LINE where messages go by %s', async (_, paths) => {
    const { events, ...outcome } = await guest.run('line', paths);
    expect(outcome).toMatchObject(DONE);
    expect(events.lineChanges).toBeGreaterThan(0);
    expect(events.signalledMessages).toBe(0);
  });

  it.each([
    [{}, 'interrupts by KVM_IRQFD, INTx by KVM_IRQFD with resampling, doorbells by KVM_IOEVENTFD'],
    [{ irqfd: false, ioeventfd: false }, 'interrupts by KVM_SIGNAL_MSI, INTx by KVM_IRQ_LINE, doorbells by exits'],
  ])('the log says once which way was taken: %j', async (paths, said) => {
    const before = guest.log.length;
    const own = await KvmGuest.start({
      arch: x86_64Machine,
      cpus: 2,
      memoryMiB: 16,
      kernel: guest.kernel,
      initramfs: guest.kernel,
      commandLine: guest.commandLine('traffic'),
      network: { network: guest.network, queues: 2 },
      console: undefined,
      paths,
    });
    try {
      await own.ended;
      expect(own.consoleTail.at(-1)).toBe('done');
      expect(guest.log.slice(before)).toEqual([`Slipway's VMM: ${said}`]);
      expect(own.stats().events.doorbellExits > 0).toBe('ioeventfd' in paths);
    } finally {
      await own.kill();
    }
  });
});
