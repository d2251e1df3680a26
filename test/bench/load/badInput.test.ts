/** `slipway bench load` with what can't be: one line that says so, before anything is measured. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, test } from 'vitest';
import { expectOneLine, slipway } from '../../cli/slipway.js';

const folder = mkdtempSync(join(tmpdir(), 'slipway-load-'));
const plainFile = join(folder, 'plain-file');
writeFileSync(plainFile, 'not a socket\n');
afterAll(() => rmSync(folder, { recursive: true }));

/** Nobody listens there. */
const socket = join(folder, 'socket');
const NO_PROCESS = '4194304';

async function expectComplaint(args: readonly string[], code: number, complaint: RegExp): Promise<void> {
  expectOneLine(await slipway(['bench', 'load', ...args]), code, complaint);
}

describe('wrong usage ends with 2', () => {
  test.each([
    [[], /required option '-s, --socket <path>' not specified/],
    [['fly', '-s', socket], /'fly' is invalid .* one of crr, rr/],
    [['crr', '-s', ''], /--socket.* must be a path/],
    [['crr', '-s', join(folder, 'x'.repeat(110))], /--socket.* at most 107 bytes/],
    [['crr', '-s', socket, '--flows', '0'], /--flows.* whole number from 1/],
    [['crr', '-s', socket, '--mac', '01:00:5e:00:00:01'], /--mac.* is a group address/],
    [['crr', '-s', socket, '--mac', '00:00:00:00:00:00'], /--mac.* is a group address, or none/],
    [['crr', '-s', socket, '--pid', NO_PROCESS], /--pid.* no process 4194304/],
    [['crr', '-s', socket, '--server-pid', NO_PROCESS], /--server-pid.* no process 4194304/],
    [['crr', '-s', socket, '--json', '/nonexistent/result.json'], /cannot write \/nonexistent\/result\.json/],
    [['crr', '-s', socket, '--queues', '2', '--hop', '5'], /--hop .* fewer threads than queue pairs/],
    [['udp-rr', '-s', socket, '--size', '1473'], /--size 1473: .* at most 1472 bytes with an MTU of 1500/],
    [['crr', '-s', socket, '--queues', '2', '--refuse', 'MQ'], /--refuse MQ leaves one queue pair/],
  ] as [string[], RegExp][])('%j', (args, complaint) => expectComplaint(args, 2, complaint));
});

describe('what fails at run time ends with 1', () => {
  test.each([
    [['dhcp', '-s', socket], /no back end at .*socket/],
    [['dhcp', '-s', plainFile], /no back end at .*plain-file/],
    [['dhcp', '-s', plainFile, '--listen'], /cannot listen at .*plain-file.*in use/],
    [['dhcp', '-s', '/nonexistent/socket', '--listen'], /cannot listen at \/nonexistent\/socket/],
  ] as [string[], RegExp][])('%j', (args, complaint) => expectComplaint(args, 1, complaint));
});
