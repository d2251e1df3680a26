/**
 * Hostile front ends against `slipway serve` as users run it. After each: the process lives, the next front end is served,
 * no descriptor is left; at the end it sleeps, and has not grown.
 */
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LoadServers } from '../../bench/load/servers.js';
import { addon } from '../../src/native/addon.js';
import { startSlipway } from '../cli/slipway.js';
import type { Invocation } from '../cli/slipway.js';
import * as fe from '../device/vhostUser/frontEnd.js';
import { bringUp, obeyed, startRing } from '../device/vhostUser/harness.js';
import { PORT_BASE, connectDriver } from './guest.js';
import { Load } from './loadedNetwork.js';
import { until } from '../until.js';

const MIB = 2 ** 20;
const TIB = 2 ** 40;
const HANG = 120_000;
/** open(2); Node.js has no name for it. */
const O_PATH = 0o10000000;
const folder = mkdtempSync(join(tmpdir(), 'slipway-hostile-serve-'));
const path = join(folder, 'socket');
const guest = new fe.Guest();
const { region } = guest;
let serve: Invocation;
let servers: LoadServers;

beforeAll(async () => {
  servers = await LoadServers.start(PORT_BASE, 1);
  const options = ['--queues', '2', '--workers', '2', '--allow-host-loopback', '--log-level', 'error'];
  serve = startSlipway(['serve', '--vhost-user', path, ...options]);
  await once(serve.child.stdout!, 'readable');
  // What is done once, at the first packets, is none of the attacks'.
  await served();
}, HANG);

afterAll(async () => {
  serve.child.kill('SIGTERM');
  expect((await serve.outcome).exitCode).toBe(0);
  await servers.close();
  guest.close();
  rmSync(folder, { recursive: true, force: true });
}, HANG);

const pid = (): number => serve.child.pid!;
const descriptors = (): number => readdirSync(`/proc/${pid()}/fd`).length;
/** Mappings of guest memory. */
const mappings = (): number => readFileSync(`/proc/${pid()}/maps`, 'utf8').split('memfd:').length - 1;
const residentMiB = (): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid()}/status`, 'utf8'))![1]) / 1024;
/** CPU time that the process has used, in ticks of 10 ms (proc(5)). */
function ticks(): number {
  const fields = readFileSync(`/proc/${pid()}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

/** Connects as soon as the listener's backlog has room: a flood of others may have filled it. */
async function untilRoom<T>(connect: () => T): Promise<Awaited<T>> {
  for (;;) {
    try {
      return await connect();
    } catch (error) {
      const { code, cause } = error as NodeJS.ErrnoException;
      if (code !== 'EAGAIN' && (cause as NodeJS.ErrnoException | undefined)?.code !== 'EAGAIN') throw error;
      await delay(1);
    }
  }
}

const reach = (): Promise<fe.FrontEnd> => untilRoom(() => fe.FrontEnd.connect(path));

/** A guest gets its lease, resolves its gateway, and connects to a server of the host. */
async function served(): Promise<void> {
  await using load = new Load(
    await untilRoom(() => connectDriver(path, 2, { workload: { kind: 'crr', flows: 2 } })),
    2,
  );
  await load.more(10);
  load.expectClean();
}

async function connected(): Promise<fe.FrontEnd> {
  const frontEnd = await reach();
  await bringUp(frontEnd, guest);
  return frontEnd;
}

/** Sends a table of regions and waits for the answer, whatever it is. */
async function shareMemory(regions: readonly fe.Region[], fds: readonly number[]): Promise<void> {
  const frontEnd = await reach();
  frontEnd.send(fe.SET_PROTOCOL_FEATURES, fe.u64(fe.PROTOCOL_F_REPLY_ACK));
  await frontEnd.ack(fe.SET_MEM_TABLE, fe.memoryTable(regions), fds);
  startRing(frontEnd, guest, 0);
  startRing(frontEnd, guest, 1);
  frontEnd.close();
}

const at = (userAddress: bigint, changes: Partial<fe.Region> = {}): fe.Region => ({
  ...region,
  userAddress,
  ...changes,
});

const ATTACKS: readonly (readonly [string, () => Promise<void>])[] = [
  [
    '1000 connections at once, all closed at once',
    async () => {
      for (let n = 0; n < 1000; n++) (await reach()).close();
    },
  ],
  [
    '100 connections that stay, silent',
    async () => {
      const silent = Array.from({ length: 100 }, () => fe.FrontEnd.connect(path));
      await delay(1500);
      for (const frontEnd of silent) frontEnd.close();
    },
  ],
  [
    'one that stays, silent, while the next comes',
    async () => {
      const silent = await reach();
      await served();
      silent.close();
    },
  ],
  [
    'half a header, then nothing, while the next comes',
    async () => {
      const silent = await reach();
      silent.sendBytes(fe.message(fe.GET_FEATURES).subarray(0, 6), [guest.kick]);
      await served();
      silent.close();
    },
  ],
  [
    'descriptors with each message that wants none',
    async () => {
      for (let n = 0; n < 50; n++) {
        const frontEnd = await reach();
        const fds = Array.from({ length: 64 }, () => guest.memory);
        for (let m = 0; m < 10; m++) frontEnd.send(fe.GET_FEATURES, undefined, fds);
        frontEnd.close();
      }
    },
  ],
  [
    'descriptors of every kind, closed at the far end',
    async () => {
      const [one, other] = addon.socketPair();
      const kinds = ['/dev/zero', '/dev/null', '/proc/self/maps', '/proc/self/mem', '/', '/dev/urandom'];
      const opened = kinds.map((name) => openSync(name, 'r'));
      for (const request of [
        fe.SET_MEM_TABLE,
        fe.SET_VRING_KICK,
        fe.SET_VRING_CALL,
        fe.SET_VRING_ERR,
        fe.ADD_MEM_REG,
      ]) {
        for (const fd of [...opened, one, other]) {
          const frontEnd = await connected();
          const payload = request === fe.SET_MEM_TABLE ? fe.memoryTable([at(0n)]) : fe.singleRegion(at(0n));
          frontEnd.send(request, request > 11 && request < 15 ? fe.u64(1) : payload, [fd]);
          frontEnd.close();
        }
      }
      for (const fd of opened) closeSync(fd);
      for (const fd of [one, other]) addon.close(fd);
    },
  ],
  [
    'its own connection as a descriptor: a loop of references',
    async () => {
      const frontEnd = await connected();
      frontEnd.send(fe.SET_VRING_ERR, fe.u64(0), [frontEnd.fd]);
      frontEnd.send(fe.SET_OWNER, undefined, [frontEnd.fd, frontEnd.fd]);
      frontEnd.close();
    },
  ],
  [
    'memory that is read-only, write-only, or only named (O_PATH)',
    async () => {
      const name = join(folder, 'file');
      writeFileSync(name, new Uint8Array(MIB));
      for (const flags of [constants.O_RDONLY, constants.O_WRONLY, O_PATH]) {
        const fd = openSync(name, flags);
        await shareMemory([region], [fd]);
        closeSync(fd);
      }
    },
  ],
  [
    '1 TiB of sparse memory, and more than that',
    async () => {
      const huge = addon.createMemory('huge', 2 * TIB);
      await shareMemory([at(0n, { guestAddress: 0, size: TIB })], [huge]);
      await shareMemory([at(0n, { guestAddress: 0, size: 2 * TIB })], [huge]);
      await shareMemory([at(0n, { guestAddress: 2 ** 52 - 4096, size: 4096 })], [huge]);
      addon.close(huge);
    },
  ],
  [
    '64 regions, of one file, back to front, again and again',
    async () => {
      const regions = Array.from({ length: 64 }, (_, n) =>
        at(BigInt((64 - n) * 0x4000), { guestAddress: (64 - n) * 0x4000, size: 0x4000, fileOffset: n * 0x4000 }),
      );
      for (let n = 0; n < 10; n++)
        await shareMemory(
          regions,
          regions.map(() => guest.memory),
        );
    },
  ],
  [
    'rings that lie on top of each other, in their own buffers',
    async () => {
      const frontEnd = await connected();
      const base = region.userAddress;
      for (const ring of [1, 2, 3]) {
        frontEnd.send(fe.SET_VRING_NUM, fe.state(ring, 256));
        frontEnd.send(fe.SET_VRING_ADDR, fe.vringAddress(ring, base, base, base));
        frontEnd.send(fe.SET_VRING_KICK, fe.u64(ring), [guest.kick]);
        frontEnd.send(fe.SET_VRING_CALL, fe.u64(ring), [guest.kick]);
        frontEnd.send(fe.SET_VRING_ENABLE, fe.state(ring, 1));
      }
      for (let n = 0; n < 100; n++) {
        addon.eventfdSignal(guest.kick);
        await delay(1);
      }
      frontEnd.close();
    },
  ],
  [
    'an eventfd that is kick, call and error of all rings',
    async () => {
      const frontEnd = await connected();
      for (const ring of [0, 1, 2, 3]) {
        for (const request of [fe.SET_VRING_CALL, fe.SET_VRING_ERR, fe.SET_VRING_KICK]) {
          frontEnd.send(request, fe.u64(ring), [guest.kick]);
        }
      }
      addon.eventfdSignal(guest.kick);
      await delay(100);
      frontEnd.close();
    },
  ],
  [
    'rings of 32768 entries, the last of whose bytes are missing',
    async () => {
      const frontEnd = await connected();
      const end = region.userAddress + BigInt(fe.Guest.SIZE);
      frontEnd.send(fe.SET_VRING_NUM, fe.state(1, 32768));
      frontEnd.send(fe.SET_VRING_ADDR, fe.vringAddress(1, region.userAddress, region.userAddress, end - 16n));
      frontEnd.send(fe.SET_VRING_KICK, fe.u64(1), [guest.kick]);
      await frontEnd.ended();
      frontEnd.close();
    },
  ],
  [
    'every request without a word before it, each on a connection of its own',
    async () => {
      for (let request = 0; request < 64; request++) {
        for (const size of [0, 8, 40]) {
          const frontEnd = await reach();
          frontEnd.send(request, new Uint8Array(size), [], 1 | fe.FLAG_NEED_REPLY);
          frontEnd.close();
        }
      }
    },
  ],
  [
    'every request between others, twice',
    async () => {
      for (let request = 0; request < 64; request++) {
        const frontEnd = await connected();
        for (let n = 0; n < 2; n++) frontEnd.send(request, new Uint8Array(8), request === 12 ? [guest.kick] : []);
        frontEnd.close();
      }
    },
  ],
  [
    'rings enabled before they are there, stopped before they run, stopped twice, started twice',
    async () => {
      const frontEnd = await connected();
      for (const ring of [1, 4]) {
        await frontEnd.ack(fe.SET_VRING_ENABLE, fe.state(ring, 1));
        await frontEnd.ask(fe.GET_VRING_BASE, fe.state(ring, 0));
        await frontEnd.ask(fe.GET_VRING_BASE, fe.state(ring, 0));
        startRing(frontEnd, guest, ring);
        await frontEnd.ack(fe.SET_VRING_KICK, fe.u64(ring), [guest.kick]);
      }
      await obeyed(frontEnd, fe.RESET_DEVICE, new Uint8Array(0));
      await frontEnd.ack(fe.SET_VRING_KICK, fe.u64(0), [guest.kick]);
      frontEnd.close();
    },
  ],
  [
    'a flood of questions whose answers nobody reads',
    async () => {
      const frontEnd = await connected();
      const question = fe.message(fe.GET_CONFIG, fe.configAccess(0, 256));
      for (let n = 0; n < 100_000 && frontEnd.sendBytes(question); n++);
      await delay(100);
      frontEnd.close();
    },
  ],
  [
    'a flood of refusals',
    async () => {
      const frontEnd = await connected();
      for (let n = 0; n < 2000; n++) await frontEnd.ack(fe.SET_VRING_NUM, fe.state(n, n));
      frontEnd.close();
    },
  ],
  [
    'a conversation byte by byte',
    async () => {
      const frontEnd = await reach();
      await frontEnd.trickle(fe.message(fe.SET_MEM_TABLE, fe.memoryTable([region])), [guest.memory]);
      await frontEnd.trickle(fe.message(fe.GET_FEATURES));
      expect(await frontEnd.receive()).toMatchObject({ request: fe.GET_FEATURES });
      frontEnd.close();
    },
  ],
  [
    'polled rings whose driver has gone',
    async () => {
      const frontEnd = await connected();
      for (const ring of [1, 3]) {
        startRing(frontEnd, guest, ring);
        await obeyed(frontEnd, fe.SET_VRING_KICK, fe.u64(ring | fe.NO_FD));
      }
      frontEnd.close();
    },
  ],
];

describe('a front end with', () => {
  it.each(ATTACKS)(
    '%s',
    async (_name, attack) => {
      const before = { descriptors: descriptors(), mappings: mappings() };
      await attack();
      await served();
      expect(serve.child.exitCode).toBeNull();
      await until(() => descriptors() <= before.descriptors);
      await until(() => mappings() <= before.mappings);
    },
    HANG,
  );
});

it(
  'leaves a process that sleeps, and that has not grown',
  async () => {
    // What the last attack left, terabytes to unmap among it, may take a while; a loop would go on for ever.
    for (let busy = Infinity; busy >= 50;) {
      const before = ticks();
      await delay(1000);
      busy = ticks() - before;
    }
    const small = residentMiB();
    for (const [, attack] of ATTACKS.filter(([name]) => !/silent|TiB/.test(name))) await attack();
    await served();
    expect(residentMiB() - small).toBeLessThan(64);
  },
  HANG,
);
