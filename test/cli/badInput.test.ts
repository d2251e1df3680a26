import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { hostArch } from '../../arch/host.js';
import { expectOneLine, slipway } from './slipway.js';

const folder = mkdtempSync(join(tmpdir(), 'slipway-cli-'));
const occupied = join(folder, 'occupied.socket');
const plainFile = join(folder, 'plain-file');
const cutOffKernel = join(folder, 'cut-off-kernel');
const longPath = join(folder, 'x'.repeat(110));
let holder: Server;

beforeAll(async () => {
  writeFileSync(plainFile, 'not a socket, not a kernel\n');
  // A bzImage's magic, and nothing behind it.
  const header = Buffer.alloc(1024);
  header.write('HdrS', 0x202, 'latin1');
  writeFileSync(cutOffKernel, header);
  holder = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => holder.listen(occupied, resolve));
});
afterAll(async () => {
  await new Promise((resolve) => holder.close(resolve));
  rmSync(folder, { recursive: true, force: true });
});

const serve = ['serve', '--vhost-user', join(folder, 'serve.socket'), '--queues', '2'];

describe('wrong usage ends with 2 and one line', () => {
  const rows: [string[], RegExp][] = [
    [[], /no command given/],
    [['fly'], /unknown command "fly"/],
    [['--fly'], /unknown option '--fly'/],
    [['run', '--fly'], /unknown option '--fly'/],
    [['run', '--cpus'], /argument missing/],
    [['run', '--cpus', '0'], /--cpus must be a whole number from 1 to 64, not "0"/],
    [['run', '--cpus', '65'], /--cpus .* not "65"/],
    [['run', '--cpus', '2.5'], /--cpus .* not "2.5"/],
    [['run', '--cpus', '-1'], /--cpus .* not "-1"/],
    [['run', '--cpus', 'two'], /--cpus .* not "two"/],
    [['run', '--cpus', '99999999999999999999'], /--cpus must be/],
    [['run', '--memory', '1'], /--memory must be a whole number from 64/],
    [['run', '--queues', ''], /--queues must be/],
    [['run', '--workers', '0x4'], /--workers must be/],
    [['run', '--mtu', '67'], /--mtu must be a whole number from 68 to 65535/],
    [['run', '--mtu', '65536'], /--mtu must be/],
    [[...serve, '--udp-timeout-ms', '999'], /--udp-timeout-ms must be a whole number from 1000 to 86400000/],
    [['run', '--memory', '65537'], /--memory must be a whole number from 64 to 65536/],
    [['run', '--vmm', 'kvm', '--accel', 'tcg', '--', 'true'], /vmm kvm is Slipway's own/],
    [['run', '--accel', 'magic'], /--accel must be one of auto, kvm, tcg, not "magic"/],
    [['run', '--engine', 'steam'], /--engine must be one of auto, uring, epoll/],
    [['run', '--log-level', 'loud'], /--log-level must be one of/],
    [['run', '--file', 'nowhere'], /--file must be HOST:GUEST.*not "nowhere"/],
    [['run', '--file', '/etc/passwd:relative'], /--file must be HOST:GUEST/],
    [['run', '--kernel', ''], /--kernel must be a path/],
    [['run', '--', ''], /command is empty/],
    [['serve'], /required option '--vhost-user <path>' not specified/],
    [['serve', '--vhost-user', '/tmp/x'], /required option '--queues <n>' not specified/],
    [['serve', '--vhost-user', '', '--queues', '2'], /--vhost-user must be a path/],
    [['serve', '--vhost-user', longPath, '--queues', '2'], /--vhost-user must be at most 107 bytes long/],
    [[...serve, '--queues', '0'], /--queues must be/],
    [[...serve, '--queues', '65'], /--queues must be/],
    [[...serve, '--mtu', 'big'], /--mtu must be/],
    [[...serve, '--engine', 'io'], /--engine must be/],
    [[...serve, 'surplus'], /too many arguments/],
    [['bench', 'crr', '--cpus', 'many'], /--cpus/],
    [['bench', 'bulk', '--directions', 'up'], /--directions .*up is none of send, receive/],
    [['bench', 'nothing'], /unknown command 'nothing'/],
  ];
  it.concurrent.for(rows)('slipway %j', async ([args, complaint], context) => {
    const outcome = await slipway(args);
    context.expect(outcome.exitCode).toBe(2);
    expectOneLine(outcome, 2, complaint);
  });
});

describe('what fails at run time ends with 1 and one line', () => {
  const queues = ['--queues', '1'];
  const rows: [string[], RegExp][] = [
    [['run', '--kernel', '/nonexistent/kernel'], /\/nonexistent\/kernel/],
    [['run', '--kernel', plainFile], /plain-file is no Linux kernel/],
    [['run', '--kernel', folder], /cannot read the kernel/],
    [['run', '--file', '/nonexistent/file:/file'], /\/nonexistent\/file/],
    [['serve', '--vhost-user', occupied, ...queues], /occupied\.socket is already in use/],
    [['serve', '--vhost-user', plainFile, ...queues], /plain-file exists and is not a socket/],
    [['serve', '--vhost-user', '/nonexistent/folder/socket', ...queues], /\/nonexistent\/folder\/socket/],
    [['serve', '--vhost-user', '/proc/socket', ...queues], /\/proc\/socket/],
  ];
  it.for(rows)('slipway %j', async ([args, complaint]) => {
    expectOneLine(await slipway(args), 1, complaint);
  });

  it('a kernel that is cut off', async () => {
    expectOneLine(await slipway(['run', '--kernel', cutOffKernel]), 1, /cut-off-kernel|QEMU ended/);
  });

  it.skipIf(hostArch().canUseKvm())('KVM asked for where there is none', async () => {
    expectOneLine(await slipway(['run', '--accel', 'kvm', '--', 'true']), 1, /no hardware KVM here .* use tcg/);
    expectOneLine(await slipway(['run', '--vmm', 'kvm', '--', 'true']), 1, /needs hardware KVM .* use qemu/);
  });

  it('no QEMU', async () => {
    const programs = mkdtempSync(join(folder, 'programs-'));
    for (const name of ['setpriv', 'ldd']) symlinkSync(join('/usr/bin', name), join(programs, name));
    expectOneLine(await slipway(['run', '--', 'true'], '', { PATH: programs }), 1, /cannot start QEMU/);
  });
});
