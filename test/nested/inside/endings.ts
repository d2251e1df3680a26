/** `endings VMM`: how the guest's reboot, power-off and panic are reported. */
import { describeError } from '../../../src/errors.js';
import { Sandbox } from '../../../src/sandbox/sandbox.js';
import { report, scriptArguments, vmmOption } from './guest.js';

const ENDINGS = {
  reboot: 'reboot -f',
  powerOff: 'poweroff -f',
  panic: 'echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger',
};

const { vmm } = scriptArguments();

async function ending(script: string): Promise<object> {
  await using sandbox = await Sandbox.start({ ...vmmOption(vmm), memoryMiB: 128 });
  try {
    const { exitCode } = await sandbox.run(['sh', '-c', `${script}; sleep 60`]);
    return { name: 'none', message: `the command ended with ${exitCode}`, consoleTail: sandbox.consoleTail };
  } catch (error) {
    const name = error instanceof Error ? error.name : 'unknown';
    return { name, message: describeError(error), consoleTail: sandbox.consoleTail };
  }
}

const endings: Record<string, object> = {};
for (const [name, script] of Object.entries(ENDINGS)) endings[name] = await ending(script);
report(endings);
