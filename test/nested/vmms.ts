/** The VMMs that the nested tests drive: `kvm` is Slipway's own, `qemu` is QEMU with `-accel kvm` and Slipway behind vhost-user. */
import type { Vmm } from './inside/guest.js';

export const VMMS: readonly Vmm[] = ['qemu', 'kvm'];
