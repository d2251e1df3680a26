/** What a sandbox has to know about the processor, behind one interface. */

/** How a guest's instructions are executed: by the processor, or emulated by QEMU. */
export type Accelerator = 'kvm' | 'tcg';

export interface Arch {
  /** QEMU's program for this processor. */
  readonly qemu: string;
  /** The serial console's name on the kernel's command line. */
  readonly console: string;
  /** What this processor wants on the kernel's command line. */
  readonly kernelParameters: readonly string[];
  /** Whether the processor and this user can run virtual machines in hardware. */
  canUseKvm(): boolean;
  /** What stands in the way of that, and what to do about it; undefined if nothing does. */
  kvmObstacle(): string | undefined;
  /** QEMU's options for machine and processor. */
  machineOptions(accelerator: Accelerator): string[];
  /**
   * `uname -r` of a kernel, the name of its modules' folder; undefined if the image doesn't tell.
   * @param image path of a kernel as distributions ship it, or of an ELF vmlinux
   * @throws {MissingPieceError} if there is no kernel at that path
   */
  kernelRelease(image: string): Promise<string | undefined>;
  /**
   * Path of the kernel as QEMU starts it fastest; of the image itself if it can't be had that way.
   * @param folder where to put what has to be made
   * @throws {MissingPieceError} if there is no kernel at that path
   */
  kernelForQemu(image: string, folder: string): Promise<string>;
}
