/** The path of the listening socket: who has it, and what to tell the user if it can't be had. */
import { lstatSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Addon } from '../../src/native/addon.js';
import { errorCode, errorText, VhostUserSocketError } from './errors.js';

/** unix(7): `sun_path` has 108 bytes, the last of them zero. */
const MAX_PATH_BYTES = 107;

/**
 * Listens at `path`. A socket file that nobody listens on any more is replaced.
 * @throws {VhostUserSocketError}
 */
export function listenOn(addon: Addon, path: string): number {
  try {
    return addon.unixListen(path);
  } catch (error) {
    if (errorCode(error) !== 'EADDRINUSE') throw socketError(path, error, 'listen at');
  }
  checkStale(addon, path);
  try {
    rmSync(path, { force: true });
    return addon.unixListen(path);
  } catch (error) {
    throw socketError(path, error, 'listen at');
  }
}

/** Returns if `path` is a socket that nobody listens on, or is gone meanwhile. */
function checkStale(addon: Addon, path: string): void {
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (status === undefined) return;
  if (!status.isSocket()) {
    throw new VhostUserSocketError(`${path} exists and is not a socket: choose another path`, path, 'EADDRINUSE');
  }
  try {
    addon.close(addon.unixConnect(path));
  } catch (error) {
    if (errorCode(error) === 'ECONNREFUSED') return;
    // EAGAIN: somebody listens, and has more callers than it can take.
    if (errorCode(error) !== 'EAGAIN') throw socketError(path, error, 'listen at');
  }
  throw new VhostUserSocketError(`${path} is already in use by another process`, path, 'EADDRINUSE');
}

/** What the system said about `path`, in words that help. */
export function socketError(path: string, error: unknown, intent: string): VhostUserSocketError {
  const code = errorCode(error);
  return new VhostUserSocketError(`cannot ${intent} ${path}: ${reason(path, code, error)}`, path, code);
}

function reason(path: string, code: string, error: unknown): string {
  switch (code) {
    case 'ENAMETOOLONG':
      return `a socket's path has at most ${MAX_PATH_BYTES} bytes, this one has ${Buffer.byteLength(path)}`;
    case 'ENOENT':
      return `the folder ${dirname(path)} does not exist`;
    case 'ENOTDIR':
      return `${dirname(path)} is not a folder`;
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return `not permitted in ${dirname(path)}`;
    case 'EINVAL':
      return 'not a usable path';
    default:
      return errorText(error);
  }
}
