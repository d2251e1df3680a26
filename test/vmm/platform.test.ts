/** The table of GSIs. */
import { expect, it } from 'vitest';
import type { Route, Vm } from '../../src/vmm/kvm.js';
import { GsiTable } from '../../src/vmm/platform.js';

const REFUSED = 0x1_0000_0000n;
const FIXED: readonly Route[] = [{ kind: 'irqchip', gsi: 9, chip: 2, pin: 9 }];

/** Remembers the routes of each call; refuses one address, as KVM does where its APIC has 32-bit identifiers. */
class FakeVm implements Pick<Vm, 'setRoutes'> {
  routes: readonly Route[] = [];

  setRoutes(routes: readonly Route[]): void {
    if (routes.some((route) => route.kind === 'msi' && route.address === REFUSED)) throw new Error('EINVAL');
    this.routes = routes;
  }
}

it('a message that KVM refuses leaves all routes as they were, and others can still be changed', () => {
  const vm = new FakeVm();
  const gsis = new GsiTable(vm as unknown as Vm, FIXED);
  const first = gsis.reserve(2);
  expect(first).toBe(10);
  gsis.routeMessage(first, 0xfee0_0000n, 0x41);
  expect(() => gsis.routeMessage(first, REFUSED, 0x41)).toThrow('EINVAL');
  expect(() => gsis.routeMessage(first + 1, REFUSED, 0x42)).toThrow('EINVAL');
  gsis.routeMessage(first + 1, 0xfee0_1000n, 0x42);
  expect(vm.routes).toEqual([
    ...FIXED,
    { kind: 'msi', gsi: first, address: 0xfee0_0000n, data: 0x41 },
    { kind: 'msi', gsi: first + 1, address: 0xfee0_1000n, data: 0x42 },
  ]);
});
