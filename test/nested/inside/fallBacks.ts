/** `fallBacks`: what KVM does for a guest of Slipway's own VMM that gets on without irqfd and ioeventfd. */
import { Guest, report } from './guest.js';

const MEASURED = 20;

await using guest = await Guest.start('kvm', 2, { eventPaths: { irqfd: false, ioeventfd: false } });
report(await guest.tracedCrr(2, MEASURED));
