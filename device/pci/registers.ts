/** A block of little-endian registers that takes accesses of every width at every offset. */

/** One register. Side effects happen once per access that touches it. */
export interface Register {
  /** Bytes from the block's start. */
  readonly offset: number;
  readonly size: 1 | 2 | 4;
  /** An unsigned number of `size` bytes. */
  read(): number;
  /** Left out: the register is read-only. A promise resolves when the write has taken effect. */
  write?(value: number): void | Promise<void>;
}

/** The value of a read that nothing answers: all ones, `length` bytes. */
export function allOnes(length: number): number {
  return 2 ** (8 * length) - 1;
}

/** Byte `index` of a number of up to 4 bytes. */
export function byteOf(value: number, index: number): number {
  return (value >>> (8 * index)) & 0xff;
}

/** `value` with `byte` as its byte `index`; unsigned. */
export function withByte(value: number, index: number, byte: number): number {
  return ((value & ~(0xff << (8 * index))) | (byte << (8 * index))) >>> 0;
}

/** Reads `length` bytes (1 … 4) of plain memory; what lies beyond its end is zero. */
export function readBytes(bytes: Uint8Array, offset: number, length: number): number {
  let value = 0;
  for (let n = 0; n < length; n++) value = withByte(value, n, bytes[offset + n] ?? 0);
  return value;
}

/** Where no register lies, zeroes are read and writes go nowhere (virtio 1.2 §4.1.4.3: reserved). */
export class RegisterBlock {
  constructor(private readonly registers: readonly Register[]) {}

  read(offset: number, length: number): number {
    let value = 0;
    for (const register of this.touched(offset, length)) {
      const content = register.read();
      for (let n = 0; n < register.size; n++) {
        const at = register.offset + n - offset;
        if (at >= 0 && at < length) value = withByte(value, at, byteOf(content, n));
      }
    }
    return value;
  }

  /** Bytes of a register that the access doesn't cover stay as they are. */
  write(offset: number, length: number, value: number): void | Promise<void> {
    const waits: Promise<void>[] = [];
    for (const register of this.touched(offset, length)) {
      if (register.write === undefined) continue;
      const wait = register.write(merged(register, offset, length, value));
      if (wait !== undefined) waits.push(wait);
    }
    if (waits.length > 0) return Promise.all(waits).then(() => undefined);
  }

  private touched(offset: number, length: number): Register[] {
    return this.registers.filter(
      (register) => register.offset < offset + length && register.offset + register.size > offset,
    );
  }
}

/** What a register holds once an access has written the bytes of it that it covers. */
function merged(register: Register, offset: number, length: number, value: number): number {
  const whole = offset <= register.offset && offset + length >= register.offset + register.size;
  let content = whole ? 0 : register.read();
  for (let n = 0; n < register.size; n++) {
    const at = register.offset + n - offset;
    if (at >= 0 && at < length) content = withByte(content, n, byteOf(value, at));
  }
  return content;
}
