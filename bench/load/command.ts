/** `slipway bench load`: options, progress and output. */
import { writeFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { integer, number } from '../arguments.js';
import { UsageError } from '../../src/errors.js';
import { formatIpv4Address } from '../../workers/wire/ipv4.js';
import { DEVICE_DEFAULTS, MAX_THREADS } from '../driver/device.js';
import { LOOP_DEFAULTS } from '../driver/eventLoop.js';
import { REFUSABLE } from '../driver/features.js';
import type { FeatureName } from '../driver/features.js';
import { GUEST_DEFAULTS } from '../driver/loadDriver.js';
import { formatMac } from '../driver/network.js';
import {
  address,
  congestionOption,
  featureList,
  macAddress,
  mode,
  powerOfTwo,
  processId,
  socketPath,
} from './arguments.js';
import { checkWritable } from '../report/session.js';
import { requireFit, runLoad, timeoutOf, workloadOf } from './load.js';
import type { LoadOptions } from './load.js';
import { loadReport } from './report.js';
import type { Mode } from './result.js';

interface Flags {
  readonly socket: string;
  readonly listen?: true;
  readonly flows: number;
  readonly seconds: number;
  readonly warmup: number;
  readonly queues: number;
  readonly threads?: number;
  readonly hop: number;
  readonly size: number;
  readonly verify?: true;
  readonly stalled: number;
  readonly idle: number;
  readonly timeout?: number;
  readonly mtu: number;
  readonly queueSize: number;
  readonly rxBuffer: number;
  readonly fragment: number;
  readonly window: number;
  readonly sendBuffer: number;
  readonly rto: number;
  readonly refuse: readonly FeatureName[];
  readonly strictChecksums?: true;
  readonly ip: number;
  readonly gateway: number;
  readonly to?: number;
  readonly mac: Uint8Array;
  readonly dhcp?: true;
  readonly port: number;
  readonly pid?: number;
  readonly serverPid?: number;
  readonly serverThreads: number;
  readonly congestion?: string;
  readonly json?: string;
}

/** An IPv4 address, whose default is shown as people write it. */
function addressOption(flags: string, description: string, standard: number): Option {
  return new Option(flags, description).argParser(address).default(standard, formatIpv4Address(standard));
}

/** Adds `load` to the command `bench`. */
export function registerLoad(bench: Command): void {
  const command = bench
    .command('load')
    .description('drive a vhost-user back end at native speed, without a VM')
    .argument('<mode>', 'crr, rr, bulk-tx, bulk-rx, udp-rr, udp-flood, udp-flood-rx, stall, idle or dhcp', mode)
    .requiredOption('-s, --socket <path>', "the back end's vhost-user socket", socketPath)
    .option('--listen', 'listen there: the back end connects')
    .option('-f, --flows <n>', 'concurrent flows', integer(1, 20_000), 1)
    .option('-t, --seconds <s>', 'measured time', number(0.1, 3_600), 5)
    .option('--warmup <s>', 'time before that', number(0, 600), 1)
    .option('-q, --queues <n>', 'queue pairs', integer(1, 64), DEVICE_DEFAULTS.pairs)
    .option('--threads <n>', 'driver threads (default: one per queue pair)', integer(1, MAX_THREADS))
    .option('--hop <ms>', "move each flow to its thread's next queue pair this often", integer(0, 60_000), 0)
    .option('-b, --size <bytes>', 'payload of a request, or of a datagram', integer(1, 1_048_576), 1)
    .option('--verify', 'compare what is received with what was sent')
    .option('--stalled <n>', 'stall: connects without an answer', integer(1, 20_000), 100)
    .option('--idle <n>', 'idle: open connections', integer(1, 40_000), 8_000)
    .option(
      '--timeout <ms>',
      `an operation is given up after this (default: ${timeoutOf('crr')}; udp-rr: ${timeoutOf('udp-rr')})`,
      integer(10, 600_000),
    )
    .option('--json <file>', 'write the result as JSON too');
  addGuestOptions(command);
  addHostOptions(command);
  command.action(async (chosen: Mode, flags: Flags) => run(chosen, flags));
}

function addGuestOptions(command: Command): void {
  command
    .option('--mtu <bytes>', "the guest's MTU", integer(576, 65_521), DEVICE_DEFAULTS.mtu)
    .option('--queue-size <n>', 'entries of each queue', powerOfTwo(16, 32_768), DEVICE_DEFAULTS.queueSize)
    .option('--rx-buffer <bytes>', 'size of a receive buffer', integer(256, 65_536), DEVICE_DEFAULTS.rxBufferSize)
    .option('--fragment <bytes>', 'pieces that payload is cut into', integer(4_096, 65_536), DEVICE_DEFAULTS.fragment)
    .option('--window <bytes>', 'receive window', integer(1_024, 16_776_960), LOOP_DEFAULTS.windowBytes)
    .option(
      '--send-buffer <bytes>',
      'most that a flow has in flight',
      integer(4_096, 2 ** 30),
      LOOP_DEFAULTS.sendBufferBytes,
    )
    .option('--rto <ms>', 'least time to retransmission', integer(10, 60_000), LOOP_DEFAULTS.rtoMs)
    .option('--refuse <features>', `features not to take, of ${REFUSABLE.join(',')}`, featureList, [])
    .option('--strict-checksums', 'check checksums even where the back end vouches for them')
    .addOption(addressOption('--ip <address>', "the guest's address", GUEST_DEFAULTS.address))
    .addOption(addressOption('--gateway <address>', "the guest's gateway", GUEST_DEFAULTS.gateway))
    .addOption(
      new Option('--mac <address>', "the guest's MAC address")
        .argParser(macAddress)
        .default(GUEST_DEFAULTS.mac, formatMac(GUEST_DEFAULTS.mac)),
    )
    .option('--dhcp', 'ask for address, gateway and MTU');
}

function addHostOptions(command: Command): void {
  command
    .option('--to <address>', 'where the servers are, as the guest sees it (default: the gateway)', address)
    .option('-p, --port <n>', "the servers' first port", integer(1, 65_500), 18_000)
    .option('--pid <n>', "the back end's process: measure its CPU", processId)
    .option('--server-pid <n>', 'servers that run already: measure their CPU, start none', processId)
    .option('--server-threads <n>', 'threads of the servers', integer(1, 64), 1)
    .addOption(congestionOption());
}

async function run(chosen: Mode, flags: Flags): Promise<void> {
  checkWritable(flags.json);
  const result = await runLoad(loadOptions(chosen, flags), (line) => process.stderr.write(`load: ${line}\n`));
  process.stdout.write(`${loadReport(result, process.stdout.isTTY)}\n`);
  if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify(result, null, 2)}\n`);
}

/** @throws {UsageError} for flags that contradict each other */
function loadOptions(chosen: Mode, flags: Flags): LoadOptions {
  const threads = Math.min(flags.threads ?? MAX_THREADS, flags.queues);
  if (flags.hop > 0 && threads === flags.queues) {
    throw new UsageError('--hop needs fewer threads than queue pairs: flows stay with their thread');
  }
  if (flags.queues > 1 && flags.refuse.includes('MQ')) {
    throw new UsageError('--refuse MQ leaves one queue pair, --queues asks for more');
  }
  requireFit({ kind: workloadOf(chosen), bytes: flags.size }, flags.mtu);
  return {
    mode: chosen,
    socket: flags.socket,
    listen: flags.listen ?? false,
    seconds: flags.seconds,
    warmup: flags.warmup,
    serverThreads: flags.serverThreads,
    ...(flags.congestion !== undefined && { congestion: flags.congestion }),
    ...(flags.pid !== undefined && { pid: flags.pid }),
    ...(flags.serverPid !== undefined && { serverPid: flags.serverPid }),
    driver: {
      device: {
        pairs: flags.queues,
        threads,
        queueSize: flags.queueSize,
        rxBufferSize: flags.rxBuffer,
        mtu: flags.mtu,
        fragment: flags.fragment,
        refused: flags.refuse,
      },
      loop: {
        rtoMs: flags.rto,
        timeoutMs: flags.timeout ?? timeoutOf(chosen),
        windowBytes: flags.window,
        sendBufferBytes: flags.sendBuffer,
        strictChecksums: flags.strictChecksums ?? false,
        dhcp: (flags.dhcp ?? false) || chosen === 'dhcp',
      },
      workload: {
        kind: workloadOf(chosen),
        flows: flags.flows,
        bytes: flags.size,
        verify: flags.verify ?? false,
        stalled: chosen === 'stall' ? flags.stalled : 0,
        idle: chosen === 'idle' ? flags.idle : 0,
        address: flags.to ?? flags.gateway,
        portBase: flags.port,
        hopMs: flags.hop,
      },
      guest: { mac: flags.mac, address: flags.ip, mask: GUEST_DEFAULTS.mask, gateway: flags.gateway },
    },
  };
}
