/** Structures of linux/kvm.h as they go to KVM. */
import { expect, it } from 'vitest';
import type { Addon } from '../../src/native/addon.js';
import { Vm } from '../../src/vmm/kvm.js';

/** A machine whose requests are kept, as 32-bit words. */
function recordingVm() {
  const requests: [request: string, words: number[]][] = [];
  const addon: Partial<Addon> = {
    kvmOpen: () => 3,
    kvmCall: (_fd, request) => (request === 'KVM_GET_API_VERSION' ? 12 : 4),
    kvmTransfer: (_fd, request, bytes) => {
      requests.push([request, [...new Uint32Array(bytes.buffer)]]);
      return 0;
    },
  };
  return { vm: new Vm(addon as Addon), requests };
}

const zeroes = (count: number): number[] => Array.from({ length: count }, () => 0);

it('kvm_irq_routing: chips and pins; messages, whose sender is told if the controller routes by it', () => {
  const { vm, requests } = recordingVm();
  vm.setRoutes([
    { kind: 'irqchip', gsi: 9, chip: 2, pin: 11 },
    { kind: 'msi', gsi: 24, address: 0x1_fee0_1000n, data: 0x41, sender: undefined },
    { kind: 'msi', gsi: 25, address: 0x808_0040n, data: 3, sender: 0x18 },
  ]);
  expect(requests).toEqual([
    [
      'KVM_SET_GSI_ROUTING',
      [
        [3, 0],
        [9, 1, 0, 0, 2, 11, ...zeroes(6)],
        [24, 2, 0, 0, 0xfee0_1000, 1, 0x41, 0, ...zeroes(4)],
        [25, 2, 1, 0, 0x808_0040, 0, 3, 0x18, ...zeroes(4)],
      ].flat(),
    ],
  ]);
});

it('kvm_msi: address, data; and the sender, with the flag that says so', () => {
  const { vm, requests } = recordingVm();
  vm.signalMessage({ address: 0x1_fee0_1000n, data: 0x41, sender: undefined });
  vm.signalMessage({ address: 0x808_0040n, data: 3, sender: 0x18 });
  expect(requests).toEqual([
    ['KVM_SIGNAL_MSI', [0xfee0_1000, 1, 0x41, 0, 0, ...zeroes(3)]],
    ['KVM_SIGNAL_MSI', [0x808_0040, 0, 3, 1, 0x18, ...zeroes(3)]],
  ]);
});
