/** QEMU's command line for a sandbox. */
import type { Accelerator, Arch } from '../../arch/arch.js';
import { kernelCommandLine } from './commandLine.js';

/** What the guest's network card is attached to. */
export type SandboxNet =
  /** A vhost-user back end that listens at `path`, with `queues` queue pairs. */
  | { readonly kind: 'vhost-user'; readonly path: string; readonly queues: number }
  /** QEMU's own user network (libslirp). */
  | { readonly kind: 'user' }
  /** A server of Ethernet frames at a UNIX socket, such as passt. */
  | { readonly kind: 'stream'; readonly path: string }
  /** No network card. */
  | { readonly kind: 'none' };

export interface QemuSettings {
  readonly accelerator: Accelerator;
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly kernel: string;
  readonly initramfs: string;
  /** More of the kernel's command line. */
  readonly kernelParameters: readonly string[];
  readonly net: SandboxNet;
  /** The descriptor, in QEMU, of the socket that leads to the guest's agent. */
  readonly agentFd: number;
}

/** The options; console on standard output, the agent on the descriptor given. */
export function qemuOptions(arch: Arch, settings: QemuSettings): string[] {
  const { accelerator, cpus, memoryMiB } = settings;
  return [
    ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    arch.machineOptions(accelerator),
    ['-smp', String(cpus), '-m', `${memoryMiB}M`],
    // A vhost-user back end maps the guest's memory: it has to be a file that both share.
    ['-object', `memory-backend-memfd,id=memory,size=${memoryMiB}M,share=on`, '-numa', 'node,memdev=memory'],
    ['-kernel', settings.kernel, '-initrd', settings.initramfs],
    ['-append', kernelCommandLine(arch, settings.kernelParameters)],
    ['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
    ['-chardev', `socket,id=agent,fd=${settings.agentFd}`],
    ['-device', 'virtio-serial-pci,max_ports=2', '-device', 'virtserialport,chardev=agent,nr=1'],
    netOptions(settings.net),
  ].flat();
}

function netOptions(net: SandboxNet): string[] {
  // No boot ROM: the guest never boots from the network.
  const device = 'virtio-net-pci,netdev=net,romfile=';
  switch (net.kind) {
    case 'none':
      return [];
    case 'user':
      return ['-netdev', 'user,id=net', '-device', device];
    case 'stream':
      return ['-netdev', `stream,id=net,addr.type=unix,addr.path=${escaped(net.path)}`, '-device', device];
    case 'vhost-user':
      return [
        ['-chardev', `socket,id=net,path=${escaped(net.path)}`],
        ['-netdev', `vhost-user,id=net,chardev=net,queues=${net.queues}`],
        // One vector per queue, one for the control queue, one for the configuration.
        ['-device', `${device},mq=on,vectors=${2 * net.queues + 2}`],
      ].flat();
  }
}

/** A comma ends a value in QEMU's options; two are one. */
function escaped(value: string): string {
  return value.replaceAll(',', ',,');
}
