/** What a PCI device asks of the machine that it is plugged into: interrupts and doorbells. */

/** One MSI-X vector's way to the interrupt controller: an eventfd bound by KVM_IRQFD to a GSI whose MSI route is this vector's message. */
export interface MessageInterrupts {
  /** The eventfd of vector `vector`; whoever signals it raises the vector, or leaves it pending while disconnected. */
  eventfd(vector: number): number;
  /** Routes the vector to this message and lets signals through (KVM_SET_GSI_ROUTING, then KVM_IRQFD assign: a pending signal fires at once). */
  connect(vector: number, address: bigint, data: number): void;
  /** Masks: KVM_IRQFD deassign; signals stay in the eventfd. */
  disconnect(vector: number): void;
  /** Whether a signal waits in the eventfd of a disconnected vector. */
  pending(vector: number): boolean;
}

/** INTx, level-triggered. */
export interface LineInterrupt {
  set(asserted: boolean): void;
}

/**
 * KVM_IOEVENTFD on guest physical memory. Of any length and value: with an address for each queue nothing need be compared,
 * and KVM then doesn't decode the instruction.
 */
export interface Doorbells {
  /** From now on a write to `address` signals `fd` and doesn't exit. */
  attach(address: number, fd: number): void;
  detach(address: number, fd: number): void;
}

/** What went through this thread since there was no eventfd for it, or none is wanted. */
export interface EventCounts {
  /** Notifications of queues that were exits. */
  doorbellExits: number;
  /** Messages raised by KVM_SIGNAL_MSI, and those of them that no vCPU took. */
  signalledMessages: number;
  lostMessages: number;
  /** Lines raised or lowered by KVM_IRQ_LINE. */
  lineChanges: number;
}

/** What drivers did that they must not; each is said in the log too. */
export interface DriverFaults {
  /** Sets of features that were refused at FEATURES_OK (virtio 1.2 §3.1.1). */
  refusedFeatures: number;
  /** Rules broken so that the device has to be reset (§2.1.2, DEVICE_NEEDS_RESET). */
  resetsNeeded: number;
  /** MSI-X vectors whose message the interrupt controller doesn't take. */
  refusedMessages: number;
}

export interface Platform {
  interrupts(vectors: number): MessageInterrupts;
  readonly line: LineInterrupt;
  /** `undefined`: notifications come as writes to memory, and the device signals its kick eventfd itself. */
  readonly doorbells: Doorbells | undefined;
  readonly counts: EventCounts;
  readonly faults: DriverFaults;
}
