/** `life VMM CPUS`: a guest's life: interrupts under load, its queue pairs changed, its driver reloaded, then another guest. */
import { Guest, report, scriptArguments } from './guest.js';
import { traced } from './kvmTrace.js';

/** Few: an emulated level 1 does some twenty CRRs a second, and fewer the more vCPUs share it. */
const MEASURED = 40;
const CHECKED = 12;
/** Bytes that cross the agent's port. */
const WRITTEN = 65_536;
const RELOADS = 10;
const RELOAD = `rmmod virtio_net && insmod /lib/slipway/modules/virtio_net.ko &&
ip link set eth0 up && udhcpc -i eth0 -n -t 10 -T 1 -O mtu -s /lib/slipway/udhcpc > /tmp/udhcpc.log 2>&1`;

const { vmm, cpus } = scriptArguments();

async function firstGuest(): Promise<object> {
  await using guest = await Guest.start(vmm, cpus);
  const { run, activity } = await guest.tracedCrr(cpus, MEASURED);
  const output = await traced(() => guest.shell(`head -c ${WRITTEN} /dev/zero`));
  const interrupts = await guest.interrupts();
  const [, underLoad] = await Promise.all([changeQueues(guest), guest.crr(cpus, MEASURED)]);

  let reloads = 0;
  for (; reloads < RELOADS; reloads++) await guest.shell(RELOAD);
  const afterReloads = await guest.crr(cpus, CHECKED);
  const counts = { machine: guest.sandbox.stats(), device: guest.network.stats().devices[0] };
  return { bootMs: guest.bootMs, interrupts, counts, run, activity, output, underLoad, reloads, afterReloads };
}

async function changeQueues(guest: Guest): Promise<void> {
  if (cpus === 1) return;
  for (const pairs of [1, cpus, 1, cpus]) await guest.shell(`ethtool -L eth0 combined ${pairs}`);
}

async function secondGuest(): Promise<object> {
  await using guest = await Guest.start(vmm, cpus);
  return { bootMs: guest.bootMs, run: await guest.crr(cpus, CHECKED) };
}

const first = await firstGuest();
report({ first, second: await secondGuest() });
