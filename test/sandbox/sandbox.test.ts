import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, writeFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  CommandTimeoutError,
  GuestPanicError,
  MissingPieceError,
  QemuError,
  SandboxClosedError,
  SandboxError,
  UsageError,
} from '../../src/errors.js';
import { Sandbox } from '../../src/sandbox/sandbox.js';

const SMALL = { memoryMiB: 192 } as const;
const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

/** A stream that nobody can write to until it is opened. */
class Gate extends Writable {
  bytes = 0;
  #waiting: (() => void)[] = [];
  #open = false;

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.bytes += chunk.length;
    if (this.#open) done();
    else this.#waiting.push(done);
  }

  open(): void {
    this.#open = true;
    for (const done of this.#waiting.splice(0)) done();
  }
}

describe('a guest', () => {
  let sandbox: Sandbox;
  let folder = '';

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'slipway-test-'));
    writeFileSync(join(folder, 'data'), 'from the host');
    const files = { '/opt/data': join(folder, 'data'), '/usr/bin/env-of-host': '/usr/bin/env' };
    sandbox = await Sandbox.start({ ...SMALL, cpus: 2, net: { kind: 'user' }, files });
  });
  afterAll(async () => {
    await sandbox.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it('runs a command with standard input, output, error and exit code apart', async () => {
    const result = await sandbox.run(['sh', '-c', 'cat; echo complaint >&2; exit 42'], { stdin: 'in\n' });
    expect(result).toEqual({ exitCode: 42, stdout: 'in\n', stderr: 'complaint\n' });
  });

  it('has as many CPUs as asked for, and its address, router and DNS from the lease', async () => {
    const script = 'nproc; ip -4 -o address show eth0; ip route; cat /etc/resolv.conf';
    const { stdout } = await sandbox.run(['sh', '-c', script]);
    expect(stdout).toMatch(/^2\n.* 10\.0\.2\.15\/24 /);
    expect(stdout).toContain('default via 10.0.2.2');
    expect(stdout).toContain('nameserver 10.0.2.3');
    expect(sandbox.networkComplaint).toBe('');
  });

  it('carries any bytes both ways', async () => {
    const data = randomBytes(1 << 20);
    const output = new PassThrough();
    const received = output.toArray();
    await sandbox.run(['cat'], { stdin: Readable.from([data.subarray(0, 1000), data.subarray(1000)]), stdout: output });
    output.end();
    expect(sha256(Buffer.concat((await received) as Buffer[]))).toBe(sha256(data));
  });

  it("runs several commands at once, and a command whose output nobody takes doesn't stop the others", async () => {
    const gate = new Gate();
    const flood = sandbox.run(['head', '-c', '3000000', '/dev/zero'], { stdout: gate });
    const answers = await Promise.all([1, 2, 3].map((n) => sandbox.run(['sh', '-c', `seq 20000 | tail -n ${n}`])));
    expect(answers.map(({ stdout }) => stdout.split('\n').length)).toEqual([2, 3, 4]);
    gate.open();
    expect((await flood).exitCode).toBe(0);
    expect(gate.bytes).toBe(3_000_000);
  });

  it("doesn't wait for input that a command leaves unread", async () => {
    const endless = new PassThrough();
    endless.write(randomBytes(500_000));
    expect((await sandbox.run(['true'], { stdin: endless })).exitCode).toBe(0);
  });

  it('comes back when the command has ended, though a process that it left behind holds its output', async () => {
    expect(await sandbox.run(['sh', '-c', 'sleep 1000 & echo started'])).toMatchObject({ stdout: 'started\n' });
  });

  it('says 127 for a program that is not there, and 128 + the signal for one that is killed', async () => {
    const missing = await sandbox.run(['no-such-program']);
    expect(missing).toMatchObject({ exitCode: 127, stdout: '' });
    expect(missing.stderr).toContain('no-such-program');
    expect((await sandbox.run(['sh', '-c', 'kill -9 $$'])).exitCode).toBe(137);
  });

  it("kills a command when its time is up, and the command's children", async () => {
    const slow = sandbox.run(['sh', '-c', 'sleep 4242; true'], { timeoutMs: 200 });
    await expect(slow).rejects.toThrow(CommandTimeoutError);
    const { stdout } = await sandbox.run(['sh', '-c', 'sleep 0.2; ps']);
    expect(stdout).not.toContain('4242');
  });

  it('passes signals on', async () => {
    const output = new PassThrough();
    const script = 'trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done';
    const command = sandbox.start(['sh', '-c', script], { stdout: output });
    // Before its trap is set the signal would end the shell by itself, with 143.
    await once(output, 'data');
    command.kill(15);
    expect((await command.result).exitCode).toBe(5);
  });

  it('gives a terminal of the size asked for', async () => {
    const { stdout } = await sandbox.run(['sh', '-c', 'tty; stty size; cat'], {
      stdin: 'typed\n',
      terminal: { rows: 33, columns: 99 },
    });
    expect(stdout).toContain('/dev/pts/');
    expect(stdout).toContain('33 99');
    expect(stdout.match(/typed/g)).toHaveLength(2);
  });

  it('sets working directory and environment', async () => {
    const options = { folder: '/tmp', environment: { GREETING: 'hello "you"' } };
    const { stdout } = await sandbox.run(['sh', '-c', 'pwd; echo "$GREETING"'], options);
    expect(stdout).toBe('/tmp\nhello "you"\n');
  });

  it("has the user's files, programs with their libraries", async () => {
    expect((await sandbox.run(['cat', '/opt/data'])).stdout).toBe('from the host');
    expect((await sandbox.run(['env-of-host', 'A=b'])).stdout).toContain('A=b\n');
  });

  it('refuses an empty command', async () => {
    await expect(sandbox.run([])).rejects.toThrow(UsageError);
  });

  it('reports a panic with the last lines of the console, to every command that runs', async () => {
    const waiting = sandbox.run(['sleep', '1000']);
    const fatal = sandbox.run(['sh', '-c', 'echo c > /proc/sysrq-trigger']);
    await expect(waiting).rejects.toThrow(GuestPanicError);
    const error = await fatal.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(GuestPanicError);
    expect((error as GuestPanicError).consoleTail.join('\n')).toContain('Kernel panic');
    await expect(sandbox.run(['true'])).rejects.toThrow(GuestPanicError);
  });
});

describe('a sandbox that does not come up', () => {
  it('ends at once when it is closed while booting, and leaves nothing', async () => {
    const [folder, usual] = [mkdtempSync(join(tmpdir(), 'slipway-test-')), process.env['TMPDIR']];
    process.env['TMPDIR'] = folder;
    try {
      const abort = new AbortController();
      const starting = Sandbox.start({ ...SMALL, net: { kind: 'none' } }, abort.signal);
      await vi.waitUntil(() => readdirSync(folder).length > 0);
      abort.abort();
      await expect(starting).rejects.toThrow(SandboxClosedError);
      expect(readdirSync(folder)).toEqual([]);
    } finally {
      if (usual === undefined) delete process.env['TMPDIR'];
      else process.env['TMPDIR'] = usual;
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('says what QEMU said when that ends by itself', async () => {
    const net = { kind: 'vhost-user', path: '/nonexistent/socket', queues: 1 } as const;
    const error = await Sandbox.start({ ...SMALL, net }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(QemuError);
    expect((error as QemuError).message).toContain('/nonexistent/socket');
    expect((error as QemuError).message).not.toContain('\n');
  });

  it('gives up on a guest that does not boot in time', async () => {
    const start = Sandbox.start({ ...SMALL, net: { kind: 'none' }, bootTimeoutMs: 200 });
    await expect(start).rejects.toThrow(/has not booted in 200 ms/);
    await expect(start).rejects.toThrow(SandboxError);
  });

  it('names the kernel that is missing, or none', async () => {
    const start = (kernel: string): Promise<Sandbox> => Sandbox.start({ ...SMALL, kernel });
    await expect(start('/nonexistent/kernel')).rejects.toThrow(MissingPieceError);
    await expect(start('/bin/sh')).rejects.toThrow(QemuError);
    await expect(start('/etc/passwd')).rejects.toThrow(/no Linux kernel/);
  });
});
