/** How guests end that don't end themselves, and how those are ended that don't. */
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { hostMachineArch } from '../../arch/host.js';
import { VcpuError } from '../../src/errors.js';
import { KvmGuest } from '../../src/vmm/kvmGuest.js';
import { bareMachine, type BareMachine } from './bareMachine.js';
import { BareMetal, describeOnKvm } from './bareMetal.js';

describeOnKvm('a guest', () => {
  let guests: BareMetal;
  let kernel: string;
  beforeAll(() => {
    guests = new BareMetal();
    kernel = guests.build('ioEnds');
  });
  afterAll(() => guests[Symbol.dispose]());

  const command = async (commandLine: string): Promise<BareMachine> => {
    const bare = await bareMachine(kernel, { commandLine });
    bare.machine.start();
    return bare;
  };

  it.each([
    ['a triple fault', 't', { kind: 'failed', vcpu: 0, reason: 'tripleFault' }],
    ['a jump to where no memory is', 'e', { kind: 'failed', vcpu: 0, reason: 'internalError' }],
  ])('ends by %s, and its owner learns why', async (_, letter, end) => {
    const { machine } = await command(letter);
    await using __ = machine;
    expect(await machine.ended).toMatchObject(end);
  });

  it('that has ended does not run again', async () => {
    const { machine } = await command('r');
    await using _ = machine;
    expect(await machine.ended).toEqual({ kind: 'reset' });
    const before = machine.stats().exits.io;
    machine.resume();
    await setTimeout(20);
    expect(machine.stats().exits.io).toBe(before);
  });

  it('of a sandbox: the error is typed, with vCPU, reason and the last lines of the console', async () => {
    const guest = await KvmGuest.start({
      arch: hostMachineArch(),
      cpus: 1,
      memoryMiB: 16,
      kernel,
      initramfs: kernel,
      commandLine: 't',
      network: undefined,
      console: undefined,
    });
    const error = await guest.ended;
    await guest.kill();
    expect(error).toBeInstanceOf(VcpuError);
    expect(error).toMatchObject({ vcpu: 0, reason: 'tripleFault', consoleTail: ['ready'] });
  });

  it.each([
    ['halted, with interrupts off', 'h', 'halted'],
    ['in an endless loop, with interrupts off', 'l', 'stuck'],
  ])('%s, is paused, resumed and ended', async (_, letter, said) => {
    const bare = await command(letter);
    await bare.said(said);
    await bare.machine.pause();
    bare.machine.resume();
    await bare.machine.close();
    expect(await bare.machine.ended).toEqual({ kind: 'closed' });
  });
});
