/** Where the pieces of a guest lie: what set-up put into `.cache/guest`, and the scripts of `src/guest`. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { MissingPieceError } from '../errors.js';
import { packageRoot } from '../packageRoot.js';

export interface GuestPieces {
  /** Debian's cloud kernel as an ELF file. */
  readonly vmlinux: string;
  /** Folder of `RELEASE/kernel/…`. */
  readonly modules: string;
  /** A static busybox. */
  readonly busybox: string;
  readonly agent: string;
  /** Scripts. */
  readonly init: string;
  readonly udhcpc: string;
}

/** @throws {MissingPieceError} if set-up hasn't run */
export function guestPieces(): GuestPieces {
  const root = packageRoot();
  const cache = join(root, '.cache/guest');
  const pieces: GuestPieces = {
    vmlinux: join(cache, 'vmlinux'),
    modules: join(cache, 'modules'),
    busybox: join(cache, 'bin/busybox'),
    agent: join(cache, 'bin/agent'),
    init: join(root, 'src/guest/init'),
    udhcpc: join(root, 'src/guest/udhcpc'),
  };
  const missing = Object.values(pieces).find((path) => !existsSync(path));
  if (missing !== undefined) throw new MissingPieceError(`the guest lacks ${missing}; run npm run setup in ${root}`);
  return pieces;
}
