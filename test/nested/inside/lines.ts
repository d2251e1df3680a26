/** `lines`: a Linux that takes no messages, by way of the I/O APIC and by way of the 8259s. */
import { Guest, report } from './guest.js';

const CPUS = 2;
const FLOWS = 2;
const MEASURED = 20;

async function withParameters(...kernelParameters: string[]): Promise<object> {
  await using guest = await Guest.start('kvm', CPUS, { kernelParameters });
  const { run, activity } = await guest.tracedCrr(FLOWS, MEASURED);
  return { bootMs: guest.bootMs, run, activity, interrupts: await guest.interrupts() };
}

report({ ioApic: await withParameters('pci=nomsi'), pic: await withParameters('pci=nomsi', 'noapic') });
