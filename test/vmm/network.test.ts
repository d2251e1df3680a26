/** A network card on a real machine of any /dev/kvm: two vCPUs of bare metal drive it, real workers serve it. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { x86_64Machine } from '../../arch/x86_64/machine.js';
import { describeOnKvm } from './bareMetal.js';
import { GuestNetwork } from './networkGuest.js';

/** Nothing passed through this process: KVM's eventfds did it all. */
const NO_EVENTS = { doorbellExits: 0, signalledMessages: 0, lostMessages: 0, lineChanges: 0 };
const NO_FAULTS = { refusedFeatures: 0, resetsNeeded: 0, refusedMessages: 0, unclaimedAccesses: 0 };
const DONE = { end: { kind: 'powerOff' }, verdict: 'done' };
/** 10.0.2.15. */
const GUEST_ADDRESS = 0x0a00_020f;
const BAR_SIZE = 0x8000;

describeOnKvm('a bare-metal guest with a network card', () => {
  let guest: GuestNetwork;

  beforeAll(async () => {
    guest = await GuestNetwork.create();
  });

  afterAll(async () => {
    const { deaths } = guest;
    await guest[Symbol.asyncDispose]();
    expect(deaths).toBe(0);
  });

  it('finds it by mechanism #1; ARP, DHCP and TCP on both pairs, each by its own vCPU and vectors, without an exit (B1, B2, B5, P1, P2, P10)', async () => {
    const { values, events, kicks, ...outcome } = await guest.run('traffic');
    expect(outcome).toMatchObject(DONE);
    expect(values).toMatchObject({
      slot: 1,
      ecam: 0,
      line: x86_64Machine.lineGsi(1),
      barSize: BAR_SIZE,
      pairs: 2,
      offered: GUEST_ADDRESS,
    });
    const taken = Object.keys(values).filter((name) => name.startsWith('interrupts.'));
    // vCPU 0: queues 0 and 1, and the control queue; vCPU 1: queues 2 and 3. Vector 0 is the configuration's.
    expect(taken).toEqual(['interrupts.0.1', 'interrupts.0.2', 'interrupts.0.5', 'interrupts.1.3', 'interrupts.1.4']);
    expect(events).toEqual(NO_EVENTS);
    expect(kicks).toBeGreaterThan(0);
  });

  it('what a user is told: exits by kind, doorbells and interrupts by queue, no fault of a driver without any', async () => {
    const { exits, faults, device } = await guest.run('traffic');
    // The console's bytes, and the card's registers.
    expect(exits.io).toBeGreaterThan(0);
    expect(exits.mmio).toBeGreaterThan(0);
    expect(faults).toEqual(NO_FAULTS);
    const some = expect.toSatisfy((count: number) => count > 0);
    expect(device).toMatchObject({ interrupts: Array.from({ length: 5 }, () => some), brokenQueues: 0 });
    // A receive queue's driver need not say that it has more buffers.
    expect(device.kicks.filter((_, queue) => queue % 2 === 1 || queue === 4)).toEqual([some, some, some]);
  });

  it('faults of a driver are counted: broken rings, accesses where nothing is', async () => {
    const broken = await guest.run('needsReset');
    expect(broken.faults.resetsNeeded).toBeGreaterThan(0);
    expect(broken.device.brokenQueues).toBeGreaterThan(0);
    const moved = await guest.run('rubbishConfig');
    expect(moved.faults.unclaimedAccesses).toBeGreaterThan(0);
  });

  it.each([
    ['a masked vector waits in its pending bit and fires at unmask (P11, PCI 3.0 §6.8.2.8)', 'mask'],
    ['Function Mask holds all vectors (P11, PCI 3.0 §6.8.2.3)', 'functionMask'],
    ['a vector goes to another message while its queue works, and no interrupt is lost (P10)', 'remap'],
    ['the BAR moves while the queues run, with doorbells and vectors (PCI 3.0 §6.2.5.1)', 'moveBar'],
    ['ten resets with buffers outstanding; silence, and a new beginning (S2, S5, P7)', 'reset'],
    ['ten resets of single queues while the other pair works (S8)', 'ringReset'],
    ['a connection goes on through changes of the number of pairs (B5, N14)', 'pairs'],
    ['messages that no vCPU takes are lost, those after them are not', 'nobody'],
    ['broken rules: NEEDS_RESET, a configuration interrupt, and a reset that heals (S7)', 'needsReset'],
    ['INTx: a level, until ISR is read (P9, B4, PCI 3.0 §6.2.2)', 'line'],
  ])('%s', async (_, scenario) => {
    const { events, ...outcome } = await guest.run(scenario);
    expect(outcome).toMatchObject(DONE);
    expect(events).toEqual(NO_EVENTS);
  });

  it.each([
    ['every register of the BAR', 'rubbishRegisters'],
    ['every register of configuration space', 'rubbishConfig'],
  ])(
    'rubbish in %s, in every width, aligned and not: a reset cures it, and the guest powers off',
    async (_, scenario) => {
      expect(await guest.run(scenario)).toMatchObject(DONE);
    },
  );
});
