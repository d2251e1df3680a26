/** A virtio console on the PCI bus (virtio 1.2 §5.3): one port, a stream of bytes in both directions. */
import { Console } from '../console.js';
import { VirtioPci, type VirtioPciOptions } from './virtioPci.js';

export interface VirtioConsolePciOptions extends Omit<VirtioPciOptions, 'model'> {
  /** Gets what the guest writes to the port. */
  readonly output: (bytes: Buffer) => void;
}

export class VirtioConsolePci extends VirtioPci {
  private readonly console: Console;

  /** @throws {Error} with `code` when the guest's memory can't be mapped */
  constructor({ output, ...options }: VirtioConsolePciOptions) {
    const console = new Console(options.addon, options.memory, output);
    super({ ...options, model: console });
    this.console = console;
  }

  /** Bytes for the guest, which gets them once it has opened the port. */
  send(bytes: Uint8Array): void {
    this.console.send(bytes);
  }

  override async close(): Promise<void> {
    await super.close();
    this.console.close();
  }
}
