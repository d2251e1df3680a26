/** A virtio device's notifications to its driver: by MSI-X, or by the ISR register and INTx (virtio 1.2 §4.1.4.5, §4.1.5.1). */
import type { Addon, FdWatcher } from '../../src/native/addon.js';
import type { ConfigSpace } from './configSpace.js';
import type { Msix } from './msix.js';
import type { LineInterrupt, MessageInterrupts } from './platform.js';

/** §4.1.5.1.2: "VIRTIO_MSI_NO_VECTOR" stands for no interrupt. */
export const NO_VECTOR = 0xffff;
const ISR_QUEUE = 1;
const ISR_CONFIG = 2;

export class VirtioInterrupts {
  /** The vector of configuration changes. */
  private vector = NO_VECTOR;
  private isr = 0;
  private asserted = false;
  /** Without MSI-X all queues signal this one. */
  private readonly lineFd: number;
  private readonly watcher: FdWatcher;

  constructor(
    private readonly addon: Addon,
    private readonly config: ConfigSpace,
    private readonly msix: Msix,
    private readonly messages: MessageInterrupts,
    private readonly line: LineInterrupt,
  ) {
    this.lineFd = addon.eventfdCreate();
    this.watcher = addon.watch(this.lineFd, { readable: true }, () => this.queueUsed());
  }

  get configVector(): number {
    return this.vector;
  }

  set configVector(vector: number) {
    this.vector = this.mapped(vector);
  }

  /** The vector as the driver reads it back: NO_VECTOR for one that there isn't (§4.1.5.1.2.1). */
  mapped(vector: number): number {
    return vector < this.msix.vectors ? vector : NO_VECTOR;
  }

  /** The eventfd for used-buffer notifications of a queue that has this vector; -1: they aren't wanted. */
  callFd(vector: number): number {
    if (!this.msix.enabled) return this.lineFd;
    return vector === NO_VECTOR ? -1 : this.messages.eventfd(vector);
  }

  /** Tells the driver that the configuration has changed, or that the device needs a reset. */
  configChanged(): void {
    // §4.1.4.5.1: the bit comes first, MSI-X or not.
    this.isr |= ISR_CONFIG;
    if (!this.msix.enabled) this.updateLine();
    else if (this.vector !== NO_VECTOR) this.addon.eventfdSignal(this.messages.eventfd(this.vector));
  }

  /** Reading the register clears it, and takes the line back. */
  readIsr(): number {
    const { isr } = this;
    this.isr = 0;
    this.updateLine();
    return isr;
  }

  /** Brings the line, and the Interrupt Status bit, to what ISR and the function's configuration say (§4.1.4.5.1, PCI 3.0 §6.2.3). */
  updateLine(): void {
    // "If MSI-X capability is enabled […] the device MUST NOT use INTx" (PCI 3.0 §6.8.3.3).
    const pending = this.isr !== 0 && !this.msix.enabled;
    this.config.interruptStatus = pending;
    const asserted = pending && !this.config.intxDisabled;
    if (asserted === this.asserted) return;
    this.asserted = asserted;
    this.line.set(asserted);
  }

  /** The state after a device reset; no signal from before it is left. The queues are stopped. */
  reset(): void {
    this.vector = NO_VECTOR;
    this.isr = 0;
    this.addon.eventfdDrain(this.lineFd);
    for (let vector = 0; vector < this.msix.vectors; vector++) {
      if (this.messages.pending(vector)) this.addon.eventfdDrain(this.messages.eventfd(vector));
    }
    this.updateLine();
  }

  close(): void {
    this.watcher.close();
    this.addon.close(this.lineFd);
  }

  private queueUsed(): void {
    if (this.addon.eventfdDrain(this.lineFd) !== 0) return;
    this.isr |= ISR_QUEUE;
    this.updateLine();
  }
}
