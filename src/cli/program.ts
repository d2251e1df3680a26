/** The commands and their flags. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { LOG_LEVELS, parseRunConfig, parseServeConfig } from '../config.js';
import { UsageError } from '../errors.js';
import { packageRoot } from '../packageRoot.js';

/** Commander's own complaints, in our one line. */
function complaint(text: string): string {
  return `slipway: ${text
    .replace(/^error: /, '')
    .trim()
    .replaceAll(/\s*\n\s*/g, ' ')}\n`;
}

/** All of the command line; each command's code is loaded when it is called. */
export async function createProgram(): Promise<Command> {
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string };
  const program = new Command('slipway')
    .description('A multi-core user-mode network for virtual machines')
    .version(version)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(complaint(text)) })
    .usage('[options] <command>')
    .argument('[command...]')
    .action(([name]: string[]) => {
      const what = name === undefined ? 'no command given' : `unknown command "${name}"`;
      throw new UsageError(`${what}; slipway --help lists them`);
    });
  addRun(program);
  addServe(program);
  const { registerBench } = await import('../../bench/cli.js');
  registerBench(program);
  return program;
}

/** Flags of the network, common to `run` and `serve`. */
function withNetworkFlags(command: Command): Command {
  return command
    .option('--workers <n>', 'poll workers (default: one per queue pair, on half of the CPUs at most)')
    .option('--mtu <bytes>', "the guest's MTU", '1500')
    .option('--allow-host-loopback', "let the guest reach the host's loopback through 10.0.2.2", false)
    .option(
      '--dns <where>',
      "where queries to 10.0.2.3 go: host (the host's name server), an IPv4 address, or off",
      'host',
    )
    .option('--udp-timeout-ms <ms>', 'how long a UDP flow without datagrams lasts', '300000')
    .option('--engine <name>', 'I/O engine: auto, uring or epoll', 'auto')
    .option('--timing', "time the stages of packets' ways, for the state that SIGUSR1 writes", false)
    .option('--log-level <level>', `one of ${LOG_LEVELS.join(', ')}`, 'warn');
}

function addRun(program: Command): void {
  withNetworkFlags(
    program
      .command('run')
      .description('boot a guest and run a command in it; its output and exit code come back')
      .argument('[command...]', 'program and arguments, after --; an interactive shell if left out'),
  )
    .option('--cpus <n>', 'vCPUs', '1')
    .option('--memory <mib>', 'guest memory in MiB', '512')
    .option('--queues <n>', 'queue pairs (default: one per vCPU)')
    .option('--file <host:guest>', 'put a file into the guest; may be repeated', append, [])
    .option('--kernel <path>', "a kernel of your own, bzImage or vmlinux (default: Debian's cloud kernel)")
    .option('--accel <name>', 'auto, kvm or tcg', 'auto')
    .option('--vmm <name>', "who runs the guest: auto, kvm (Slipway's own, on hardware KVM) or qemu", 'auto')
    .option('--console', "show the guest's console on standard error", false)
    .action(async (command: string[], flags: unknown) => {
      const config = parseRunConfig(flags);
      if (command[0] === '') throw new UsageError('the command is empty');
      const { run } = await import('./run.js');
      await run(config, command);
    });
}

function addServe(program: Command): void {
  withNetworkFlags(
    program
      .command('serve')
      .description('serve the network to a VMM that somebody else starts, over vhost-user')
      .requiredOption('--vhost-user <path>', 'UNIX socket of the vhost-user protocol')
      .requiredOption('--queues <n>', 'queue pairs'),
  )
    .option('--client', 'connect to a socket that the VMM listens on', false)
    .action(async (flags: unknown) => {
      const config = parseServeConfig(flags);
      const { serve } = await import('./serve.js');
      await serve(config);
    });
}

function append(value: string, list: string[]): string[] {
  return [...list, value];
}
