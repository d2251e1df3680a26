import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { GuestPanicError } from '../../src/errors.js';
import { GuestConsole } from '../../src/sandbox/guestConsole.js';

const PANIC = '[    3.493331] Kernel panic - not syncing: sysrq triggered crash';

function consoleOf(...chunks: string[]): GuestConsole {
  const console = new GuestConsole();
  for (const chunk of chunks) console.push(Buffer.from(chunk, 'latin1'));
  return console;
}

describe('a guest console', () => {
  it('hands on what it hears, and keeps no more than 1 MiB for one who does not listen', () => {
    const taken: Buffer[] = [];
    let listening = true;
    const listener = new Writable({
      write: (chunk: Buffer, _, done) => {
        taken.push(chunk);
        if (listening) done();
      },
    });
    const console = new GuestConsole(listener);
    console.push(Buffer.from('one'));
    console.push(Buffer.from('two'));
    expect(Buffer.concat(taken).toString()).toBe('onetwo');
    listening = false;
    for (let n = 0; n < 48; n++) console.push(Buffer.alloc(65_536, 0x2e));
    expect(listener.writableLength).toBe(1 << 20);
  });

  it('has no panic to tell of where there was none', () => {
    expect(consoleOf('[    0.1] Linux version 6.1\r\n', 'login: ').panic()).toBeUndefined();
  });

  it('tells of a panic with the lines around it, in whatever pieces they came', () => {
    const console = consoleOf('before\r\n', PANIC.slice(0, 25), `${PANIC.slice(25)}\r\nCall Trace:\r\n`);
    const panic = console.panic();
    expect(panic).toBeInstanceOf(GuestPanicError);
    expect(panic?.message).toBe(`the guest's kernel panicked: ${PANIC}`);
    expect(panic?.consoleTail).toEqual(['before', PANIC, 'Call Trace:']);
  });

  it('tells of a panic however much the kernel said after it', () => {
    const trace = Array.from({ length: 1000 }, (_, n) => `[    3.5] frame ${n}\r\n`).join('');
    const console = consoleOf(`${PANIC}\r\n`, trace);
    expect(console.panic()?.message).toBe(`the guest's kernel panicked: ${PANIC}`);
    expect(console.lines()).toHaveLength(100);
    expect(console.lines().at(-1)).toBe('[    3.5] frame 999');
  });

  it('says what the agent complained of, where that is why process 1 ended', () => {
    const console = consoleOf("slipway agent: can't open the port\r\n", `${PANIC}\r\n`);
    expect(console.panic()?.message).toBe("the guest's kernel panicked: slipway agent: can't open the port");
  });

  it('forgets a second panic: the first is the reason', () => {
    expect(consoleOf(`${PANIC}\n`, 'Kernel panic - not syncing: again\n').panic()?.message).toContain('sysrq');
  });
});
