/** A guest of ten bytes that nothing inside it ends. */
import { elf } from '../arch/x86_64/images.js';

/** Writes `!` to its serial port, then hangs with its interrupts off: `mov $0x3f8,%dx; mov $'!',%al; out %al,%dx; cli; jmp .`. */
const CODE = Buffer.from([0x66, 0xba, 0xf8, 0x03, 0xb0, 0x21, 0xee, 0xfa, 0xeb, 0xfe]);

/** An ELF kernel. */
export const STUCK = elf({ segments: [{ address: 0x10_0000n, content: CODE }] });
