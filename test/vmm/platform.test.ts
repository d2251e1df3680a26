/** What a machine's devices use of KVM: the table of GSIs, the ways of their events. */
import { describe, expect, it } from 'vitest';
import { addon } from '../../src/native/addon.js';
import { KVM_CAP, type Message, type Route, type Vm } from '../../src/vmm/kvm.js';
import { choosePaths } from '../../src/vmm/eventPaths.js';
import { GsiTable, KvmPlatform } from '../../src/vmm/platform.js';
import { until } from '../until.js';

const REFUSED = 0x1_0000_0000n;
const FIXED: readonly Route[] = [{ kind: 'irqchip', gsi: 9, chip: 2, pin: 9 }];
const SENDER = 8;
const EVERY = Object.values(KVM_CAP);

type Part = 'irqfd' | 'resample' | 'ioeventfd';

/** Remembers what it was asked to do. */
class FakeVm implements Pick<
  Vm,
  'addon' | 'extension' | 'setRoutes' | 'connectIrq' | 'disconnectIrq' | 'setDoorbell' | 'setLine' | 'signalMessage'
> {
  readonly addon = addon;
  routes: readonly Route[] = [];
  readonly lines: [gsi: number, level: boolean][] = [];
  readonly messages: Message[] = [];
  /** What is connected now. */
  readonly connected = new Set<string>();

  /**
   * @param capabilities what it says it has
   * @param fails what it refuses all the same
   */
  constructor(
    private readonly capabilities: readonly number[] = EVERY,
    private readonly fails: readonly Part[] = [],
  ) {}

  get vm(): Vm {
    return this as unknown as Vm;
  }

  extension(capability: number): number {
    return this.capabilities.includes(capability) ? 1 : 0;
  }

  /** Refuses one address, as KVM does where its APIC has 32-bit identifiers. */
  setRoutes(routes: readonly Route[]): void {
    if (routes.some((route) => route.kind === 'msi' && route.address === REFUSED)) throw new Error('EINVAL');
    this.routes = routes;
  }

  connectIrq(gsi: number, _fd: number, resample?: number): void {
    this.take(resample === undefined ? 'irqfd' : 'resample');
    this.connected.add(`irq ${gsi}`);
  }

  disconnectIrq(gsi: number): void {
    this.connected.delete(`irq ${gsi}`);
  }

  setDoorbell(address: number, _fd: number, attached: boolean): void {
    this.take('ioeventfd');
    if (attached) this.connected.add(`doorbell ${address}`);
    else this.connected.delete(`doorbell ${address}`);
  }

  setLine(gsi: number, level: boolean): void {
    this.lines.push([gsi, level]);
  }

  /** Refuses it as KVM does when no vCPU takes it. */
  signalMessage(message: Message): void {
    if (message.address === REFUSED) throw new Error('EPERM');
    this.messages.push(message);
  }

  private take(part: Part): void {
    if (this.fails.includes(part)) throw new Error('ENOSYS');
  }
}

it('a message that KVM refuses leaves all routes as they were, and others can still be changed', () => {
  const fake = new FakeVm();
  const gsis = new GsiTable(fake.vm, FIXED, (gsi) => 1000 + gsi);
  const first = gsis.reserve(2);
  expect(first).toBe(10);
  gsis.routeMessage(first, { address: 0xfee0_0000n, data: 0x41, sender: SENDER });
  expect(() => gsis.routeMessage(first, { address: REFUSED, data: 0x41, sender: SENDER })).toThrow('EINVAL');
  expect(() => gsis.routeMessage(first + 1, { address: REFUSED, data: 0x42, sender: SENDER })).toThrow('EINVAL');
  gsis.routeMessage(first + 1, { address: 0xfee0_1000n, data: 0x42, sender: SENDER });
  expect(fake.routes).toEqual([
    ...FIXED,
    { kind: 'msi', gsi: first, address: 0xfee0_0000n, data: 0x41, sender: SENDER },
    { kind: 'msi', gsi: first + 1, address: 0xfee0_1000n, data: 0x42, sender: SENDER },
  ]);
});

describe('what to use of KVM', () => {
  const without = (...missing: number[]): number[] => EVERY.filter((capability) => !missing.includes(capability));
  const ALL = { irqfd: true, resample: true, ioeventfd: true };
  const NO_IRQFD = { irqfd: false, resample: false, ioeventfd: true };

  it.each([
    ['all there is', new FakeVm(), {}, ALL],
    [
      'what is allowed',
      new FakeVm(),
      { resample: false, ioeventfd: false },
      { ...ALL, resample: false, ioeventfd: false },
    ],
    ['no irqfd, no resampling', new FakeVm(), { irqfd: false }, NO_IRQFD],
    ['what it says it has: irqfd', new FakeVm(without(KVM_CAP.IRQFD)), {}, NO_IRQFD],
    ['what it says it has: resampling', new FakeVm(without(KVM_CAP.IRQFD_RESAMPLE)), {}, { ...ALL, resample: false }],
    ['what it says it has: ioeventfd', new FakeVm(without(KVM_CAP.IOEVENTFD)), {}, { ...ALL, ioeventfd: false }],
    ['what it takes: irqfd', new FakeVm(EVERY, ['irqfd']), {}, NO_IRQFD],
    ['what it takes: resampling', new FakeVm(EVERY, ['resample']), {}, { ...ALL, resample: false }],
    ['what it takes: ioeventfd', new FakeVm(EVERY, ['ioeventfd']), {}, { ...ALL, ioeventfd: false }],
    ['messages by irqfd alone', new FakeVm(without(KVM_CAP.SIGNAL_MSI)), {}, ALL],
  ])('%s', (_, fake, allowed, expected) => {
    expect(choosePaths(fake.vm, 4, 0xc000_0000, allowed)).toEqual(expected);
    expect(fake.connected.size).toBe(0);
  });

  it('a KVM that can raise no message is an error, not a guest that hangs', () => {
    const fake = new FakeVm(without(KVM_CAP.IRQFD, KVM_CAP.SIGNAL_MSI));
    expect(() => choosePaths(fake.vm, 4, 0xc000_0000)).toThrow(/neither KVM_IRQFD nor KVM_SIGNAL_MSI/);
  });
});

describe('without irqfd', () => {
  const make = (): { fake: FakeVm; gsis: GsiTable; platform: (gsi?: number) => KvmPlatform } => {
    const fake = new FakeVm();
    const gsis = new GsiTable(fake.vm, FIXED, (gsi) => 1000 + gsi);
    const paths = { irqfd: false, resample: false, ioeventfd: false };
    return { fake, gsis, platform: (gsi = 17) => new KvmPlatform(gsis, gsi, SENDER, paths) };
  };

  it('B4 this thread raises messages; one that no vCPU takes is lost and counted, and the next is not', async () => {
    const { fake, gsis, platform } = make();
    const device = platform();
    const messages = device.interrupts(1);
    try {
      messages.connect(0, REFUSED, 0x41);
      addon.eventfdSignal(messages.eventfd(0));
      await until(() => gsis.counts.lostMessages === 1);
      messages.disconnect(0);
      addon.eventfdSignal(messages.eventfd(0));
      // It waited while the vector was disconnected, and goes out at once.
      messages.connect(0, 0xfee0_0000n, 0x41);
      expect(fake.messages).toEqual([{ address: 0xfee0_0000n, data: 0x41, sender: SENDER }]);
      expect(gsis.counts).toMatchObject({ signalledMessages: 2, lostMessages: 1 });
    } finally {
      device.close();
    }
  });

  it('a message that is lost when its vector is connected leaves the vector connected', async () => {
    const { gsis, platform } = make();
    const device = platform();
    const messages = device.interrupts(1);
    try {
      addon.eventfdSignal(messages.eventfd(0));
      expect(() => messages.connect(0, REFUSED, 0x41)).not.toThrow();
      addon.eventfdSignal(messages.eventfd(0));
      await until(() => gsis.counts.lostMessages === 2);
    } finally {
      device.close();
    }
  });

  it('P9 a line that devices share is up while any of them holds it', () => {
    const { fake, gsis, platform } = make();
    const [one, other, alone] = [platform(), platform(), platform(18)];
    one!.line.set(true);
    one!.line.set(true);
    other!.line.set(true);
    one!.line.set(false);
    alone!.line.set(true);
    alone!.line.set(false);
    expect(fake.lines).toEqual([
      [1017, true],
      [1018, true],
      [1018, false],
    ]);
    other!.close();
    expect(fake.lines.at(-1)).toEqual([1017, false]);
    expect(gsis.counts.lineChanges).toBe(4);
  });
});
