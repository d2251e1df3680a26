/** As much of ACPI's machine language as our DSDT needs (ACPI 6.4 §20.2), and of its resource descriptors (§6.4). */

const ZERO = 0x00;
const NAME = 0x08;
const BYTE = 0x0a;
const WORD = 0x0b;
const DWORD = 0x0c;
const SCOPE = 0x10;
const BUFFER = 0x11;
const PACKAGE = 0x12;
const EXTENDED = 0x5b;
const DEVICE = 0x82;

const bytes = (...parts: (number | Uint8Array)[]): Buffer =>
  Buffer.concat(parts.map((part) => (typeof part === 'number' ? Uint8Array.of(part) : part)));

function littleEndian(value: number, length: number): Buffer {
  const buffer = Buffer.alloc(length);
  buffer.writeUIntLE(value, 0, length);
  return buffer;
}

/** §20.2.4: the length counts itself. */
function withLength(body: Buffer): Buffer {
  if (body.length + 1 < 0x40) return bytes(body.length + 1, body);
  const length = body.length + 2;
  if (length >= 0x1000) throw new RangeError('an AML package of 4 KiB or more');
  return bytes(0x40 | (length & 0xf), length >> 4, body);
}

export function integer(value: number): Buffer {
  if (value === 0) return bytes(ZERO);
  if (value < 0x100) return bytes(BYTE, value);
  return value < 0x1_0000 ? bytes(WORD, littleEndian(value, 2)) : bytes(DWORD, littleEndian(value, 4));
}

/** A name of one segment, such as `_HID` or `\_SB_`. */
export function name(path: string, value: Uint8Array): Buffer {
  return bytes(NAME, Buffer.from(path, 'latin1'), value);
}

export function scope(path: string, ...terms: Uint8Array[]): Buffer {
  return bytes(SCOPE, withLength(bytes(Buffer.from(path, 'latin1'), ...terms)));
}

export function device(path: string, ...terms: Uint8Array[]): Buffer {
  return bytes(EXTENDED, DEVICE, withLength(bytes(Buffer.from(path, 'latin1'), ...terms)));
}

export function packageOf(...elements: Uint8Array[]): Buffer {
  return bytes(PACKAGE, withLength(bytes(elements.length, ...elements)));
}

/** §19.3.4: three letters of five bits and four hexadecimal digits, big-endian. */
export function eisaId(id: string): Buffer {
  const letters = Array.from(id.slice(0, 3)).reduce((word, letter) => (word << 5) | (letter.charCodeAt(0) - 0x40), 0);
  const value = Buffer.alloc(4);
  value.writeUInt16BE(letters, 0);
  value.writeUInt16BE(Number.parseInt(id.slice(3), 16), 2);
  return bytes(DWORD, value);
}

/** A buffer of resource descriptors with the end tag (§6.4.2.9; checksum 0: none). */
export function resources(...descriptors: Uint8Array[]): Buffer {
  const content = bytes(...descriptors, 0x79, 0);
  return bytes(BUFFER, withLength(bytes(integer(content.length), content)));
}

/** §6.4.2.5: fixed ports, 16-bit decode. */
export function ports(first: number, count: number): Buffer {
  return bytes(0x47, 1, littleEndian(first, 2), littleEndian(first, 2), 1, count);
}

/** Kinds of a host bridge's windows. */
export type Window = 'memory' | 'io' | 'bus';
const WINDOWS = {
  // Resource type and type-specific flags: read-write memory; the whole port range; bus numbers.
  memory: { tag: 0x87, width: 4, type: 0, specific: 1 },
  io: { tag: 0x88, width: 2, type: 1, specific: 3 },
  bus: { tag: 0x88, width: 2, type: 2, specific: 0 },
} as const;

/** §6.4.3.5: addresses `first` … `last`, which the bridge decodes and hands on (both ends fixed). */
export function addressWindow(kind: Window, first: number, last: number): Buffer {
  const { tag, width, type, specific } = WINDOWS[kind];
  const numbers = [0, first, last, 0, last - first + 1].map((value) => littleEndian(value, width));
  const body = bytes(type, 0x0c, specific, ...numbers);
  return bytes(tag, littleEndian(body.length, 2), body);
}
