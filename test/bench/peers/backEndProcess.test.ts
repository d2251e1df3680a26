import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { expect, it } from 'vitest';
import { BackEndError, BackEndProcess } from '../../../bench/peers/backEndProcess.js';

const LISTEN = "require('net').createServer().listen(process.argv[1])";

it('starts a program, waits for its socket, and leaves neither behind', async () => {
  const backEnd = await BackEndProcess.start((socket) => [process.execPath, '-e', LISTEN, socket]);
  const { socket, pid } = backEnd;
  expect(existsSync(socket)).toBe(true);
  expect(existsSync(`/proc/${pid}`)).toBe(true);
  await backEnd.close();
  expect(existsSync(dirname(socket))).toBe(false);
  expect(() => process.kill(pid, 0)).toThrow('ESRCH');
});

it('says what a program said that ends at once', async () => {
  const script = "console.error('first'); console.error('no such luck'); process.exit(3)";
  const starting = BackEndProcess.start(() => [process.execPath, '-e', script]);
  await expect(starting).rejects.toThrow(BackEndError);
  await expect(BackEndProcess.start(() => [process.execPath, '-e', script])).rejects.toThrow('no such luck');
});

it('says so when there is no such program', async () => {
  await expect(BackEndProcess.start(() => ['/nowhere/passt'])).rejects.toThrow(
    /\/nowhere\/passt did not start: .*ENOENT/,
  );
});
