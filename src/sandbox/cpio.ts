/** Archives in cpio's "new ASCII" format, which the kernel unpacks as its initramfs (Documentation/driver-api/early-userspace/buffer-format.rst). */

/** A file of an archive. Paths are relative, without a leading slash. */
export type CpioEntry =
  | { readonly kind: 'directory'; readonly path: string; readonly mode: number }
  | { readonly kind: 'file'; readonly path: string; readonly mode: number; readonly content: Uint8Array }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string }
  | {
      readonly kind: 'characterDevice';
      readonly path: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    };

/** File type bits of st_mode (inode(7)). */
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const S_IFCHR = 0o020000;

const HEADER_BYTES = 110;
const TRAILER = 'TRAILER!!!';

interface Header {
  readonly path: string;
  readonly mode: number;
  readonly links: number;
  readonly size: number;
  readonly major: number;
  readonly minor: number;
}

/**
 * An archive of entries in the order given; folders must come before what lies in them. Everything belongs to root and
 * is dated 1970, so that the same entries give the same bytes.
 */
export function writeCpio(entries: readonly CpioEntry[]): Buffer {
  const parts: Uint8Array[] = [];
  entries.forEach((entry, index) => {
    const content = contentOf(entry);
    parts.push(header(index + 1, headerOf(entry, content.length)), content, padding(content.length));
  });
  parts.push(header(0, { path: TRAILER, mode: 0, links: 1, size: 0, major: 0, minor: 0 }));
  return Buffer.concat(parts);
}

function contentOf(entry: CpioEntry): Uint8Array {
  if (entry.kind === 'file') return entry.content;
  return entry.kind === 'symlink' ? Buffer.from(entry.target) : Buffer.alloc(0);
}

function headerOf(entry: CpioEntry, size: number): Header {
  const base = { path: entry.path, links: 1, size, major: 0, minor: 0 };
  switch (entry.kind) {
    case 'directory':
      return { ...base, mode: S_IFDIR | entry.mode, links: 2 };
    case 'file':
      return { ...base, mode: S_IFREG | entry.mode };
    case 'symlink':
      return { ...base, mode: S_IFLNK | 0o777 };
    case 'characterDevice':
      return { ...base, mode: S_IFCHR | entry.mode, major: entry.major, minor: entry.minor };
  }
}

/** Magic, thirteen fields of eight hexadecimal digits, the name, and zeroes up to a multiple of four. */
function header(inode: number, { path, mode, links, size, major, minor }: Header): Buffer {
  const name = Buffer.from(`${path}\0`);
  // inode, mode, uid, gid, links, mtime, size, device (major, minor), device node (major, minor), name's size, checksum
  const fields = [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name.length, 0];
  const text = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
  return Buffer.concat([Buffer.from(text, 'latin1'), name, padding(HEADER_BYTES + name.length)]);
}

function padding(length: number): Buffer {
  return Buffer.alloc(-length & 3);
}
