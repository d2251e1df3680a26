/** The C clients and their server, run on the host: what they report is what happened. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { availableParallelism } from 'node:os';
import { Transform } from 'node:stream';
import type { TransformCallback } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { parseBulkRun } from '../../../bench/bulk/result.js';
import { parseCrrRun } from '../../../bench/crr/result.js';
import type { ClosingSide, CrrRun } from '../../../bench/crr/result.js';
import { GuestServer } from '../../../bench/guests/guestServer.js';
import type { ClientExit } from '../../../bench/guests/result.js';
import { compileTool } from '../../../bench/native/tools.js';

async function run(program: string, args: readonly (string | number)[]): Promise<ClientExit> {
  const child = spawn(compileTool(program), args.map(String), { stdio: ['ignore', 'pipe', 'pipe'] });
  const exit = once(child, 'exit');
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  await exit;
  return { exitCode: child.exitCode ?? -1, stdout, stderr };
}

async function crr(
  port: number,
  flows: number,
  count: number,
  warmup = 0,
  closes: ClosingSide = 'client',
): Promise<CrrRun> {
  return parseCrrRun(await run('guest/crr.c', ['127.0.0.1', port, flows, count, warmup, closes]));
}

async function bulk(direction: string, port: number, amount: number | string, streams: number, hopMs = 0) {
  const exit = await run('guest/bulk.c', [direction, '127.0.0.1', port, amount, streams, hopMs]);
  return { exitCode: exit.exitCode, ...parseBulkRun(exit) };
}

let server: GuestServer;
let helpers: Server[];
let sockets: Socket[];

beforeEach(async () => {
  server = await GuestServer.start();
  helpers = [];
  sockets = [];
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  for (const helper of helpers) helper.close();
  await server[Symbol.asyncDispose]();
});

/** A listener in this process, closed with the test. Returns its port. */
async function listen(onConnection: (socket: Socket) => void): Promise<number> {
  const helper = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    onConnection(socket);
  });
  helpers.push(helper);
  await once(helper.listen(0, '127.0.0.1'), 'listening');
  return (helper.address() as AddressInfo).port;
}

describe('crr', () => {
  it('completes 20,000 CRRs over 8 flows without an error, the server having answered each', async () => {
    // The server closes, so that this process keeps no port in TIME_WAIT.
    const report = await crr(server.crrPort, 8, 20_000, 0, 'server');
    expect(report).toMatchObject({
      flows: 8,
      count: 20_000,
      completed: 20_000,
      failed: 0,
      errors: {},
      interface: 'lo',
    });
    expect(report.completedPerFlow).toHaveLength(8);
    expect(report.completedPerFlow.reduce((sum, each) => sum + each, 0)).toBe(20_000);
    expect(report.rate).toBeCloseTo(20_000 / report.seconds, -2);
    expect(await server.stop()).toMatchObject({ accepted: 20_000, answered: 20_000, broken: 0 });
  });

  it('does not record the warm-up', async () => {
    const report = await crr(server.crrPort, 2, 30, 12);
    expect(report.completed).toBe(30);
    expect(await server.stop()).toMatchObject({ answered: 42 });
  });

  it('takes its quantiles by nearest rank: of two samples the median is the lower and p90 the higher', async () => {
    const { latencyUs: two } = await crr(server.crrPort, 1, 2);
    expect(two.p50).toBe(two.min);
    expect([two.p90, two.p99, two.p999]).toEqual([two.max, two.max, two.max]);
    const { latencyUs: one } = await crr(server.crrPort, 1, 1);
    expect(new Set(Object.values(one)).size).toBe(1);
  });

  it('orders its quantiles, each phase within the whole', async () => {
    const report = await crr(server.crrPort, 4, 1_000);
    for (const { min, p50, p90, p99, p999, max } of [report.latencyUs, report.connectUs, report.responseUs]) {
      expect([min, p50, p90, p99, p999, max].toSorted((a, b) => a - b)).toEqual([min, p50, p90, p99, p999, max]);
      expect(min).toBeGreaterThan(0);
    }
    expect(report.connectUs.min + report.responseUs.min).toBeLessThanOrEqual(report.latencyUs.min);
  });

  it('pins its flows over the CPUs it may use', async () => {
    expect((await crr(server.crrPort, 1, 1)).cpus).toBe(availableParallelism());
  });

  it('counts refused connections by errno, ends each flow after ten in a row, and exits with 0', async () => {
    const port = await listen(() => {});
    helpers[0]?.close();
    const report = await crr(port, 3, 1_000);
    expect(report).toMatchObject({ completed: 0, failed: 30, errors: { ECONNREFUSED: 30 }, rate: 0 });
    expect(report.latencyUs.p50).toBe(0);
  });

  it('counts connections that end without an answer and those that are reset', async () => {
    const closing = await listen((socket) => socket.end());
    expect((await crr(closing, 1, 3)).errors).toEqual({ END_WITHOUT_ANSWER: 3 });
    const resetting = await listen((socket) => socket.once('data', () => socket.resetAndDestroy()));
    expect((await crr(resetting, 1, 3)).errors).toEqual({ ECONNRESET: 3 });
  });

  it.each(['client', 'server'] as const)('is a full close with the %s first', async (closes) => {
    const events: string[] = [];
    const helper = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('data', (request: Buffer) => {
        events.push(`asked ${request.toString()}`);
        if (closes === 'server') socket.end('x', () => events.push('server ended'));
        else socket.write('x');
      });
      socket.on('end', () => {
        events.push('client ended');
        socket.end();
      });
      socket.on('error', (error) => events.push(error.message));
      socket.on('close', () => events.push('closed'));
    });
    helpers.push(helper);
    await once(helper.listen(0, '127.0.0.1'), 'listening');
    const report = await crr((helper.address() as AddressInfo).port, 1, 1, 0, closes);
    expect(report).toMatchObject({ completed: 1, failed: 0, closes });
    await vi.waitFor(() => expect(events).toContain('closed'));
    const [asked, first] = closes === 'client' ? ['asked c', 'client ended'] : ['asked s', 'server ended'];
    expect(events.slice(0, 2)).toEqual([asked, first]);
    expect(events.filter((event) => event.endsWith('ended'))).toContain('client ended');
    expect(events.at(-1)).toBe('closed');
  });

  it('counts an answer that is too long as a failure', async () => {
    const port = await listen((socket) => socket.end('xyz'));
    expect((await crr(port, 1, 2, 0, 'server')).errors).toEqual({ EPROTO: 2 });
  });

  it('gives up on a silent server', async () => {
    const port = await listen(() => {});
    expect((await crr(port, 2, 2)).errors).toEqual({ ETIMEDOUT: 2 });
  });

  it('refuses bad arguments with exit code 2 and one line', async () => {
    for (const args of [
      [],
      ['host', 1, 1, 1],
      ['127.0.0.1', 0, 1, 1],
      ['127.0.0.1', 1, 0, 1],
      ['127.0.0.1', 1, 1, '1x'],
    ]) {
      const { exitCode, stdout, stderr } = await run('guest/crr.c', args);
      expect(exitCode).toBe(2);
      expect(stdout).toBe('');
      expect(stderr).toMatch(/^crr: .*\n$/);
    }
  });
});

describe('bulk', () => {
  it('moves bytes both ways with equal checksums, also while its threads hop between CPUs', async () => {
    for (const direction of ['send', 'receive']) {
      const report = await bulk(direction, server.bulkPort, 64_000_003, 3, 1);
      expect(report).toMatchObject({ exitCode: 0, equal: true, bytes: 64_000_003 });
      expect(report.streams.map((stream) => stream.bytes)).toEqual([21_333_335, 21_333_334, 21_333_334]);
      expect(report.hops).toBeGreaterThan(0);
    }
    expect(await server.stop()).toMatchObject({ bulkStreams: 6, bulkWrong: 0 });
  });

  it('moves any number of bytes, less than a word too', async () => {
    for (const bytes of [1, 7, 8, 9, 65_535, 65_537]) {
      for (const direction of ['send', 'receive'])
        expect(await bulk(direction, server.bulkPort, bytes, 1)).toMatchObject({ exitCode: 0, equal: true, bytes });
    }
  });

  it('moves what it can within a time, as much as the server says too, and gives each stream as long', async () => {
    for (const direction of ['send', 'receive']) {
      const report = await bulk(direction, server.bulkPort, '50ms', 3);
      expect(report).toMatchObject({ exitCode: 0, equal: true, direction, interface: 'lo', queues: [] });
      expect(report.seconds).toBeGreaterThan(0.05);
      for (const stream of report.streams) {
        expect(stream.bytes).toBeGreaterThan(0);
        expect(stream.peerBytes).toBe(stream.bytes);
      }
      expect(report.bytes).toBe(report.streams.reduce((sum, { bytes }) => sum + bytes, 0));
    }
    expect(await server.stop()).toMatchObject({ bulkStreams: 6, bulkWrong: 0 });
  });

  it('refuses bad arguments with exit code 2 and one line', async () => {
    for (const amount of ['', '0', 'ms', '0ms', '-1ms', '1.5ms', '10s', '1msx']) {
      const { exitCode, stdout, stderr } = await run('guest/bulk.c', ['send', '127.0.0.1', 1, amount, 1]);
      expect([exitCode, stdout]).toEqual([2, '']);
      expect(stderr).toMatch(/^bulk: .*\n$/);
    }
  });

  it.each([
    ['a flipped bit', (block: Buffer) => block.writeUInt8(block.readUInt8(4_003) ^ 1, 4_003), 3_992],
    ['two words that changed places', (block: Buffer) => block.subarray(4_000, 4_016).swap64().reverse(), 3_992],
  ])('finds %s on the way, and where', async (_what, damage, offset) => {
    /** Damages what the server sends: the first chunk's length, 8 bytes, and then data. */
    class Damage extends Transform {
      private seen = 0;
      override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
        if (this.seen === 0) damage(chunk);
        this.seen += chunk.length;
        done(null, chunk);
      }
    }
    const port = await listen((socket) => {
      const upstream = connect(server.bulkPort, '127.0.0.1').on('error', () => {});
      sockets.push(upstream);
      socket.pipe(upstream);
      upstream.pipe(new Damage()).pipe(socket);
    });
    const report = await bulk('receive', port, 1_000_000, 1);
    expect(report).toMatchObject({ exitCode: 1, equal: false });
    expect(report.streams[0]).toMatchObject({ equal: false, firstWrongOffset: offset });
  });

  it('finds data that stops early, and a refused connection', async () => {
    const short = await listen((socket) => socket.end(Buffer.alloc(100, 1)));
    expect(await bulk('receive', short, 1_000, 1)).toMatchObject({
      exitCode: 1,
      equal: false,
      streams: [{ error: 'ENODATA' }],
    });
    helpers[0]?.close();
    expect(await bulk('send', short, 1_000, 1)).toMatchObject({ exitCode: 1, streams: [{ error: 'ECONNREFUSED' }] });
  });
});
