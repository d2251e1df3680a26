/** Errors that Slipway throws on purpose. Each says in one line what happened, to what, and what to do about it. */

/** What the command line reports in one line, without a stack trace. */
export class SlipwayError extends Error {
  override readonly name: string = 'SlipwayError';
}

/** The caller asked for something that can't be: a wrong flag or option. The command line exits with 2. */
export class UsageError extends SlipwayError {
  override readonly name = 'UsageError';
}

/** A program, kernel or other file that a sandbox needs is missing or useless. */
export class MissingPieceError extends SlipwayError {
  override readonly name = 'MissingPieceError';
}

/** The guest is gone, or never came up. */
export class SandboxError extends SlipwayError {
  override readonly name: string = 'SandboxError';

  /** @param consoleTail last lines that the guest's kernel printed, oldest first */
  constructor(
    message: string,
    readonly consoleTail: readonly string[] = [],
  ) {
    super(message);
  }
}

/** The guest's kernel panicked. */
export class GuestPanicError extends SandboxError {
  override readonly name = 'GuestPanicError';
}

/** Why a vCPU can't go on: the guest's doing (a triple fault), or what KVM or the processor doesn't manage. */
export type VcpuFailureReason =
  'tripleFault' | 'entryRefused' | 'internalError' | 'unknownExit' | 'runFailed' | 'deviceFailed';

/** One of the guest's vCPUs can't go on, so Slipway's own VMM ended the guest. */
export class VcpuError extends SandboxError {
  override readonly name = 'VcpuError';

  constructor(
    message: string,
    consoleTail: readonly string[],
    /** The vCPU's number, from 0. */
    readonly vcpu: number,
    readonly reason: VcpuFailureReason,
  ) {
    super(message, consoleTail);
  }
}

/** QEMU ended by itself; `stderr` is what it said last. */
export class QemuError extends SandboxError {
  override readonly name = 'QemuError';

  constructor(
    message: string,
    consoleTail: readonly string[],
    readonly stderr: string,
  ) {
    super(message, consoleTail);
  }
}

/** The sandbox was closed while something was still to be done in it. */
export class SandboxClosedError extends SandboxError {
  override readonly name = 'SandboxClosedError';
}

/** A command was killed because its time was up. */
export class CommandTimeoutError extends SlipwayError {
  override readonly name = 'CommandTimeoutError';
}

/**
 * One line about an error for people: ours as they are, the system's with what they were about.
 * @param error whatever was thrown
 */
export function describeError(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const outOfDescriptors = error instanceof Error && 'code' in error && error.code === 'EMFILE';
  const advice = outOfDescriptors ? '; raise the limit of open files (ulimit -n)' : '';
  return message.replaceAll(/\s*\n\s*/g, '; ') + advice;
}
