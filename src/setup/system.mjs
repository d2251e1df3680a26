// @ts-check
/** How set-up runs programs and tells the user about it. */
import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, createWriteStream, mkdirSync, readFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout's root. */
export const root = join(dirname(fileURLToPath(import.meta.url)), '../..');

/** Everything that programs started by set-up print goes here. */
export const logPath = join(root, '.cache/setup.log');

/** Something that couldn't be had. The message is one line: what failed, and what to do. */
export class SetupError extends Error {}

/** @param {string} line one step's progress, to standard error so that a command's own output stays clean */
export function progress(line) {
  process.stderr.write(`setup: ${line}\n`);
}

/**
 * Where a program is, searching PATH and the folders of system programs.
 * @param {string} program
 * @returns {string | undefined}
 */
export function which(program) {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  for (const folder of folders) {
    const path = join(folder, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      continue;
    }
  }
  return undefined;
}

/**
 * Runs a program to its end and returns its standard output; undefined if it can't be started or fails.
 * @param {string} program
 * @param {string[]} args
 * @returns {string | undefined}
 */
export function query(program, args) {
  const result = spawnSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return result.status === 0 ? result.stdout : undefined;
}

/**
 * Runs a program, its output appended to the log. Rejects with `failure` and the last line that looks like a reason.
 * @param {string} program
 * @param {string[]} args
 * @param {{ failure: string, cwd?: string, env?: Record<string, string> }} options
 * @returns {Promise<void>}
 */
export function run(program, args, { failure, cwd = root, env = {} }) {
  mkdirSync(dirname(logPath), { recursive: true });
  const log = createWriteStream(logPath, { flags: 'a' });
  log.write(`\n$ ${[program, ...args].join(' ')}\n`);
  const child = spawn(program, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let tail = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      log.write(chunk);
      tail = (tail + String(chunk)).slice(-8192);
    });
  }
  return new Promise((resolve, reject) => {
    const fail = (/** @type {string} */ reason) =>
      log.end(() => reject(new SetupError(`${failure} (${reason}; log: ${logPath})`)));
    child.on('error', (error) => fail(error.message));
    child.on('close', (status) => {
      if (status === 0) log.end(resolve);
      else fail(reasonIn(tail) ?? `${program} ended with ${String(status)}`);
    });
  });
}

/**
 * The line of a program's output that tells most about its failure.
 * @param {string} output
 * @returns {string | undefined}
 */
function reasonIn(output) {
  const lines = output.split('\n').flatMap((line) => (line.trim() === '' ? [] : [line.trim()]));
  return lines.find((line) => /^E: |error/i.test(line) && !/^(npm )?warn/i.test(line)) ?? lines.at(-1);
}

/**
 * The distribution: fields of os-release(5).
 * @returns {{ id: string, codename: string }}
 */
export function distribution() {
  let text = '';
  try {
    text = readFileSync('/etc/os-release', 'utf8');
  } catch {
    // A system without the file is treated as one we don't know.
  }
  const field = (/** @type {string} */ name) => new RegExp(`^${name}="?([^"\n]*)"?$`, 'm').exec(text)?.[1] ?? '';
  return { id: field('ID'), codename: field('VERSION_CODENAME') };
}
