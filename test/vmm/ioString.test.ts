/** Strings of port accesses (KVM_EXIT_IO with a count), and accesses wider than the device, as real guests make them. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bareMachine } from './bareMachine.js';
import { BareMetal, describeOnKvm } from './bareMetal.js';

describeOnKvm('a guest that accesses ports', () => {
  let guests: BareMetal;
  let kernel: string;
  beforeAll(() => {
    guests = new BareMetal();
    kernel = guests.build('ioString');
  });
  afterAll(() => guests[Symbol.dispose]());

  /** What it says after those commands and their input, until it powers off. */
  const answer = async (commands: string): Promise<string> => {
    const { machine, text } = await bareMachine(kernel, { cpus: 1 });
    await using _ = machine;
    machine.start();
    machine.sendConsole(Buffer.from(`${commands}q`));
    expect(await machine.ended).toEqual({ kind: 'powerOff' });
    return text();
  };

  it('writes a string longer than a page by one instruction', async () => {
    const expected = Array.from({ length: 6000 }, (_, n) => String.fromCharCode(0x61 + (n % 26))).join('');
    expect(await answer('s')).toBe(`${expected}\n`);
  });

  it('reads a string by one instruction', async () => {
    expect(await answer('i0123456789')).toBe('0123456789\n');
  });

  it('accesses 2 and 4 bytes at ports of one: the low byte is the port that it names', async () => {
    // The scratch register keeps the first byte of the last item; behind the eighth port is nothing.
    const [items, words] = ['3', 'W'].map((byte) => byte.charCodeAt(0));
    expect(await answer('w')).toBe(`scratch=${items}\nscratch=${words}\nwide=${words}\n\n`);
  });

  it('resets the machine in the midst of a string, while its owner closes it', async () => {
    const { machine } = await bareMachine(kernel, { cpus: 1 });
    const closed = machine.ended.then((end) => machine.close().then(() => end));
    machine.start();
    machine.sendConsole(Buffer.from('x'));
    expect(await closed).toEqual({ kind: 'reset' });
  });
});
