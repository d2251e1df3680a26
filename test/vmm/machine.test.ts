/** Machines on any /dev/kvm: start, console, ends, pause, stop. */
import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { MachineOptions } from '../../src/vmm/machine.js';
import { bareMachine, type BareMachine } from './bareMachine.js';
import { BareMetal, describeOnKvm } from './bareMetal.js';
import { STUCK } from './stuck.js';

describeOnKvm('a machine on /dev/kvm', () => {
  let guests: BareMetal;
  let hello: string;
  beforeAll(() => {
    guests = new BareMetal();
    hello = guests.build('hello');
  });
  afterAll(() => guests[Symbol.dispose]());

  const start = (options: Partial<MachineOptions> = {}): Promise<BareMachine> => bareMachine(hello, options);

  it('starts a second vCPU by INIT and SIPI, has a console in both directions, and powers off by ACPI', async () => {
    const { machine, text, said } = await start();
    await using _ = machine;
    machine.start();
    await said('vCPU 1');
    machine.sendConsole(Buffer.from('echo\n'));
    expect(await machine.ended).toEqual({ kind: 'powerOff' });
    expect(text()).toBe('hello from vCPU 0\nhello from vCPU 1\necho\n');
  });

  it('pauses and resumes a vCPU that spins and one that is halted', async () => {
    const { machine, text, said } = await start();
    await using _ = machine;
    machine.start();
    await said('vCPU 1');
    await machine.pause();
    machine.sendConsole(Buffer.from('later\n'));
    const before = machine.stats().exits.io;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(machine.stats().exits.io).toBe(before);
    machine.resume();
    expect(await machine.ended).toEqual({ kind: 'powerOff' });
    expect(text()).toMatch(/later\n$/);
  });

  it('closes while vCPUs spin and halt', async () => {
    const { machine, said } = await start();
    machine.start();
    await said('vCPU 1');
    await machine.close();
    expect(await machine.ended).toEqual({ kind: 'closed' });
  });

  it('closes while it is paused, and while it is being paused', async () => {
    for (const settled of [true, false]) {
      const { machine, said } = await start();
      machine.start();
      await said('vCPU 1');
      const paused = machine.pause();
      if (settled) await paused;
      await machine.close();
      await paused;
      expect(await machine.ended).toEqual({ kind: 'closed' });
    }
  });

  it('pauses, resumes and closes a vCPU that hangs with its interrupts off', async () => {
    const { machine, said } = await bareMachine(guests.write('stuck', STUCK), { cpus: 1 });
    machine.start();
    await said('!');
    await machine.pause();
    machine.resume();
    await machine.close();
    expect(await machine.ended).toEqual({ kind: 'closed' });
  });

  it('leaves no descriptor, thread or mapping behind', async () => {
    const held = (): number[] => ['fd', 'task', 'map_files'].map((kind) => readdirSync(`/proc/self/${kind}`).length);
    const round = async (): Promise<void> => {
      const { machine, said } = await start();
      machine.start();
      await said('vCPU 1');
      await machine.close();
    };
    await round();
    const before = held();
    const rounds = 20;
    for (let n = 0; n < rounds; n++) await round();
    // The test's own process may have opened something meanwhile: what leaks does so each time.
    for (const [kind, count] of held().entries()) expect(count - before[kind]!).toBeLessThan(rounds);
  });

  it('refuses less memory than the kernel takes, and what is no kernel', async () => {
    await expect(start({ memoryMiB: 1 })).rejects.toThrow(/at least 4 MiB/);
    await expect(start({ kernel: '/etc/passwd' })).rejects.toThrow(/no Linux kernel/);
    await expect(start({ device: '/dev/no-kvm' })).rejects.toThrow(/there is no \/dev\/no-kvm/);
    await expect(start({ device: '/dev/null' })).rejects.toThrow(/is not KVM/);
  });
});
