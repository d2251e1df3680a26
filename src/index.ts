/** What `import … from 'slipway'` gives. */
export { Network } from './network.js';
export type { DeviceStats, NetworkOptions, NetworkStats } from './network.js';
export { Sandbox } from './sandbox/sandbox.js';
export type {
  CommandResult,
  GuestFiles,
  RunOptions,
  SandboxNet,
  SandboxOptions,
  TerminalSize,
} from './sandbox/sandbox.js';
export {
  CommandTimeoutError,
  GuestPanicError,
  MissingPieceError,
  QemuError,
  SandboxClosedError,
  SandboxError,
  SlipwayError,
  UsageError,
  VcpuError,
} from './errors.js';
export type { VcpuFailureReason } from './errors.js';
export { VhostUserSocketError } from '../device/vhostUser/errors.js';
export { KvmError } from './vmm/kvm.js';
export type { MachineStats } from './vmm/machine.js';
