/** Which of KVM's eventfds a machine's devices use: all that this KVM has and takes, less what is not allowed. */
import { KVM_CAP, KvmError, type Vm } from './kvm.js';

/** What a machine's devices use of KVM. */
export interface EventPaths {
  /** Interrupts by KVM_IRQFD; otherwise this thread raises them, by KVM_SIGNAL_MSI and KVM_IRQ_LINE. */
  readonly irqfd: boolean;
  /** Level-triggered lines by KVM_IRQFD with KVM_IRQFD_FLAG_RESAMPLE; otherwise by KVM_IRQ_LINE. */
  readonly resample: boolean;
  /** Doorbells by KVM_IOEVENTFD; otherwise they exit. */
  readonly ioeventfd: boolean;
}

/**
 * What of them to use: all that this KVM says it has and then takes, less what is not allowed.
 * @param gsi one that has a route
 * @param address guest physical memory where there is none
 * @throws {KvmError} when there is no way at all to raise a message
 */
export function choosePaths(vm: Vm, gsi: number, address: number, allowed: Partial<EventPaths> = {}): EventPaths {
  const { irqfd = true, resample = true, ioeventfd = true } = allowed;
  const has = (capability: number, attempt: (fd: number) => void): boolean =>
    vm.extension(capability) > 0 && worksWithEventfd(vm, attempt);
  const irqfdWorks =
    irqfd &&
    has(KVM_CAP.IRQFD, (fd) => {
      vm.connectIrq(gsi, fd);
      vm.disconnectIrq(gsi, fd);
    });
  if (!irqfdWorks && vm.extension(KVM_CAP.SIGNAL_MSI) === 0) {
    throw new KvmError('this KVM has neither KVM_IRQFD nor KVM_SIGNAL_MSI: use QEMU (vmm: qemu)');
  }
  return {
    irqfd: irqfdWorks,
    resample:
      resample &&
      irqfdWorks &&
      has(KVM_CAP.IRQFD_RESAMPLE, (fd) => {
        vm.connectIrq(gsi, fd, fd);
        vm.disconnectIrq(gsi, fd);
      }),
    ioeventfd:
      ioeventfd &&
      has(KVM_CAP.IOEVENTFD, (fd) => {
        vm.setDoorbell(address, fd, true);
        vm.setDoorbell(address, fd, false);
      }),
  };
}

function worksWithEventfd(vm: Vm, attempt: (fd: number) => void): boolean {
  const fd = vm.addon.eventfdCreate();
  try {
    attempt(fd);
    return true;
  } catch {
    return false;
  } finally {
    vm.addon.close(fd);
  }
}

/** For the log. */
export function describePaths({ irqfd, resample, ioeventfd }: EventPaths): string {
  const interrupts = irqfd ? 'KVM_IRQFD' : 'KVM_SIGNAL_MSI';
  const lines = resample ? 'KVM_IRQFD with resampling' : 'KVM_IRQ_LINE';
  return `interrupts by ${interrupts}, INTx by ${lines}, doorbells by ${ioeventfd ? 'KVM_IOEVENTFD' : 'exits'}`;
}
