/** `slipway run`: a guest for one command. */
import type { ReadStream } from 'node:tty';
import type { RunConfig } from '../config.js';
import { createLogger } from '../log.js';
import { Network } from '../network.js';
import type { Command } from '../sandbox/command.js';
import { Sandbox } from '../sandbox/sandbox.js';
import type { TerminalSize } from '../sandbox/sandbox.js';
import { networkOptions } from './networkOptions.js';

const SHELL = ['sh', '-l'];
const SIGPIPE = 13;
/** Signals that end the guest; the exit code is 128 + the number, as a shell's. */
const ENDING_SIGNALS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;

/**
 * Boots a guest, runs the command, and sets the process's exit code to the command's. SIGUSR1 writes the state of the network
 * and of Slipway's own VMM to standard error.
 * @param command a shell if empty
 */
export async function run(config: RunConfig, command: readonly string[]): Promise<void> {
  const log = createLogger(config.logLevel);
  const abort = new AbortController();
  const stopListening = onEndingSignal((code) => {
    process.exitCode = code;
    abort.abort();
  });
  let state: () => object = booting;
  const dump = (): void => void process.stderr.write(`${JSON.stringify(state(), undefined, 2)}\n`);
  process.on('SIGUSR1', dump);
  try {
    const queues = config.queues ?? config.cpus;
    await using network = await Network.create(networkOptions(config, queues, log));
    state = () => ({ network: network.stats() });
    log.info({ cpus: config.cpus, queues }, 'booting a guest');
    await using sandbox = await Sandbox.start(sandboxOptions(config, network, queues), abort.signal);
    state = () => ({ network: network.stats(), machine: sandbox.stats() });
    if (sandbox.networkComplaint !== '') log.warn(`the guest has no network: ${sandbox.networkComplaint}`);
    abort.signal.addEventListener('abort', () => void sandbox.close());
    process.exitCode = await runCommand(sandbox, command.length === 0 ? SHELL : command);
  } catch (error) {
    // A signal from outside is no failure: the exit code says all.
    if (!abort.signal.aborted) throw error;
  } finally {
    process.off('SIGUSR1', dump);
    stopListening();
  }
}

const booting = (): object => ({});

function sandboxOptions(config: RunConfig, network: Network, queues: number): Parameters<typeof Sandbox.start>[0] {
  return {
    network,
    queues,
    cpus: config.cpus,
    memoryMiB: config.memory,
    files: Object.fromEntries(config.file.map(({ host, guest }) => [guest, host])),
    kernel: config.kernel,
    accelerator: config.accel,
    vmm: config.vmm,
    console: config.console ? process.stderr : undefined,
  };
}

function onEndingSignal(end: (exitCode: number) => void): () => void {
  const listeners = Object.entries(ENDING_SIGNALS).map(([name, number]) => {
    const listener = (): void => end(128 + number);
    process.on(name, listener);
    return () => void process.off(name, listener);
  });
  return () => listeners.forEach((stop) => stop());
}

/** On a terminal at both ends, the command gets a terminal too. */
async function runCommand(sandbox: Sandbox, command: readonly string[]): Promise<number> {
  const { stdin, stdout, stderr } = process;
  const interactive = stdin.isTTY && stdout.isTTY;
  const terminal = interactive ? terminalSize() : undefined;
  const started = sandbox.start(command, { stdin, stdout, stderr, terminal });
  // Whoever read our output has gone: the command learns it as it would on the host.
  stdout.on('error', () => started.kill(SIGPIPE));
  stderr.on('error', () => {});
  const leaveTerminal = interactive ? handTerminalOver(stdin, started) : undefined;
  try {
    return (await started.result).exitCode;
  } finally {
    leaveTerminal?.();
  }
}

function terminalSize(): TerminalSize {
  return { rows: process.stdout.rows, columns: process.stdout.columns };
}

/** Keys go to the guest as they are, Ctrl-C included. */
function handTerminalOver(stdin: ReadStream, command: Command): () => void {
  const resize = (): void => command.resize(process.stdout.rows, process.stdout.columns);
  stdin.setRawMode(true);
  process.stdout.on('resize', resize);
  return () => {
    stdin.setRawMode(false);
    process.stdout.off('resize', resize);
  };
}
