/** Kernel images made up for tests. */

export interface SegmentOptions {
  readonly type?: number;
  readonly offset?: bigint;
  readonly address: bigint;
  readonly fileSize?: bigint;
  readonly memorySize?: bigint;
  readonly content?: Buffer;
}

export interface ElfOptions {
  readonly entry?: bigint;
  readonly machine?: number;
  readonly segments?: readonly SegmentOptions[];
}

/** An ELF kernel: header, program headers, then the segments' contents (elf(5)). */
export function elf({ entry = 0x10_0000n, machine = 62, segments = [CODE_SEGMENT] }: ElfOptions = {}): Buffer {
  const head = Buffer.alloc(64 + 56 * segments.length);
  head.write('\x7fELF', 'latin1');
  head[4] = 2;
  head[5] = 1;
  head.writeUInt16LE(2, 16);
  head.writeUInt16LE(machine, 18);
  head.writeBigUInt64LE(entry, 24);
  head.writeBigUInt64LE(64n, 32);
  head.writeUInt16LE(56, 54);
  head.writeUInt16LE(segments.length, 56);
  let end = head.length;
  const parts: Buffer[] = [head];
  segments.forEach(({ type = 1, offset, address, fileSize, memorySize, content = Buffer.alloc(16, 0x90) }, index) => {
    const at = 64 + 56 * index;
    head.writeUInt32LE(type, at);
    head.writeBigUInt64LE(offset ?? BigInt(end), at + 8);
    head.writeBigUInt64LE(address, at + 24);
    head.writeBigUInt64LE(fileSize ?? BigInt(content.length), at + 32);
    head.writeBigUInt64LE(memorySize ?? BigInt(content.length), at + 40);
    parts.push(content);
    end += content.length;
  });
  return Buffer.concat(parts);
}

const CODE_SEGMENT: SegmentOptions = { address: 0x10_0000n };

export interface BzImageOptions {
  readonly payload?: Buffer;
  readonly protectedMode?: Buffer;
  readonly version?: number;
  readonly xloadflags?: number;
  readonly headerLength?: number;
  readonly ramdiskMax?: number;
  readonly alignment?: number;
  readonly relocatable?: boolean;
  readonly commandLineSize?: number;
  readonly preferredAddress?: bigint;
  readonly initSize?: number;
}

/** Where the compressed kernel lies in the protected-mode code. */
const PAYLOAD_OFFSET = 1100;

/** A bzImage as Documentation/arch/x86/boot.rst lays it out: 2 sectors of set-up behind the first, a stub, the payload. */
export function bzImage(options: BzImageOptions = {}): Buffer {
  const { payload = Buffer.alloc(64, 1), protectedMode = Buffer.alloc(PAYLOAD_OFFSET, 0x90) } = options;
  const setup = Buffer.alloc(3 * 512);
  setup[0x1f1] = 2;
  setup.writeUInt16LE(0xaa55, 0x1fe);
  setup[0x201] = options.headerLength ?? 0x6a;
  setup.write('HdrS', 0x202, 'latin1');
  setup.writeUInt16LE(options.version ?? 0x20f, 0x206);
  setup.writeUInt16LE(0x300, 0x20e);
  setup.writeUInt32LE(options.ramdiskMax ?? 0x7fff_ffff, 0x22c);
  setup.writeUInt32LE(options.alignment ?? 0x20_0000, 0x230);
  setup[0x234] = (options.relocatable ?? true) ? 1 : 0;
  setup.writeUInt16LE(options.xloadflags ?? 0x7f, 0x236);
  setup.writeUInt32LE(options.commandLineSize ?? 2047, 0x238);
  setup.writeUInt32LE(protectedMode.length, 0x248);
  setup.writeUInt32LE(payload.length, 0x24c);
  setup.writeBigUInt64LE(options.preferredAddress ?? 0x100_0000n, 0x258);
  setup.writeUInt32LE(options.initSize ?? 0x10_0000, 0x260);
  setup.write('6.1.0-9-test (debian) #1\0', 0x500, 'latin1');
  return Buffer.concat([setup, protectedMode, payload, Buffer.alloc(64)]);
}
