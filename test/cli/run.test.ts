import { once } from 'node:events';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { slipway, startSlipway } from './slipway.js';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-cli-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Processes whose command line holds `text`. */
function processesWith(text: string): string[] {
  return readdirSync('/proc').filter((entry) => {
    if (!/^\d+$/.test(entry)) return false;
    try {
      return readFileSync(`/proc/${entry}/cmdline`, 'latin1').includes(text);
    } catch {
      return false;
    }
  });
}

describe('slipway run', () => {
  it("brings the command's output and exit code back, its files in, and is attached to the network", async () => {
    writeFileSync(join(folder, 'payload'), 'payload');
    const script = 'cat; cat /opt/payload; echo; cat /sys/class/net/eth0/address; ip route; echo bad >&2; exit 7';
    const args = ['run', '--cpus', '2', '--file', `${folder}/payload:/opt/payload`, '--', 'sh', '-c', script];
    const { exitCode, stdout, stderr } = await slipway(args, 'input\n');
    expect(stderr).toBe('bad\n');
    expect(stdout).toMatch(/^input\npayload\n(..:){5}..\ndefault via 10\.0\.2\.2/);
    expect(exitCode).toBe(7);
  });

  it('writes its state to standard error on SIGUSR1 and goes on', async () => {
    const { child, outcome } = startSlipway(
      ['run', '--vmm', 'qemu', '--', 'sh', '-c', 'echo up; cat > /dev/null'],
      undefined,
    );
    await once(child.stdout!, 'data');
    child.kill('SIGUSR1');
    const [state] = (await once(child.stderr!, 'data')) as [Buffer];
    child.kill('SIGTERM');
    expect(await outcome).toMatchObject({ exitCode: 143, stderr: state.toString() });
    // QEMU counts for itself.
    expect(JSON.parse(state.toString())).toMatchObject({ network: { devices: [{ connected: true }] } });
  });

  it('ends with 128 + the signal when it is interrupted while booting, and takes QEMU with it', async () => {
    const scratch = mkdtempSync(join(folder, 'tmp-'));
    const { child, outcome } = startSlipway(['run', '--', 'sleep', '1000'], '', { TMPDIR: scratch });
    await vi.waitUntil(() => processesWith(scratch).length > 0, { timeout: 20_000 });
    child.kill('SIGINT');
    expect(await outcome).toMatchObject({ exitCode: 130, stderr: '' });
    expect(processesWith(scratch)).toEqual([]);
    expect(readdirSync(scratch)).toEqual([]);
  });

  it('takes QEMU with it even when it is killed', async () => {
    const scratch = mkdtempSync(join(folder, 'tmp-'));
    const { child, outcome } = startSlipway(['run', '--', 'sleep', '1000'], '', { TMPDIR: scratch });
    await vi.waitUntil(() => processesWith(scratch).length > 0, { timeout: 20_000 });
    child.kill('SIGKILL');
    expect(await outcome).toMatchObject({ signal: 'SIGKILL' });
    await vi.waitUntil(() => processesWith(scratch).length === 0, { timeout: 10_000 });
  });
});
