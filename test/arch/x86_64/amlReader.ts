/** Reads back what `aml.ts` writes: terms of ACPI's machine language (ACPI 6.4 §20.2) as plain values. */

export type Term =
  | number
  | Buffer
  | { readonly list: Term[] }
  | { readonly name: string; readonly value: Term }
  | { readonly scope: string; readonly terms: Term[] }
  | { readonly device: string; readonly terms: Term[] };

/** @throws {Error} for what is cut off or unknown */
export function readAml(code: Buffer): Term[] {
  const terms: Term[] = [];
  for (let at = 0; at < code.length;) {
    const [term, next] = readTerm(code, at);
    if (next > code.length) throw new Error(`the term at ${at} is cut off`);
    terms.push(term);
    at = next;
  }
  return terms;
}

function readTerm(code: Buffer, at: number): [Term, number] {
  switch (code[at]) {
    case 0x00:
      return [0, at + 1];
    case 0x0a:
      return [code.readUInt8(at + 1), at + 2];
    case 0x0b:
      return [code.readUInt16LE(at + 1), at + 3];
    case 0x0c:
      return [code.readUInt32LE(at + 1), at + 5];
    case 0x08: {
      const [name, valueAt] = readName(code, at + 1);
      const [value, next] = readTerm(code, valueAt);
      return [{ name, value }, next];
    }
    case 0x10: {
      const { body, end } = readPackage(code, at + 1);
      const [scope, terms] = readName(body, 0);
      return [{ scope, terms: readAml(body.subarray(terms)) }, end];
    }
    case 0x11: {
      const { body, end } = readPackage(code, at + 1);
      const [size, content] = readTerm(body, 0);
      if (body.length - content !== size)
        throw new Error(`a buffer of ${String(size)} bytes has ${body.length - content}`);
      return [body.subarray(content), end];
    }
    case 0x12: {
      const { body, end } = readPackage(code, at + 1);
      const list = readAml(body.subarray(1));
      if (list.length !== body[0]) throw new Error(`a package of ${body[0]} elements has ${list.length}`);
      return [{ list }, end];
    }
    case 0x5b: {
      if (code[at + 1] !== 0x82) throw new Error(`no term 0x5b ${code[at + 1]}`);
      const { body, end } = readPackage(code, at + 2);
      const [device, terms] = readName(body, 0);
      return [{ device, terms: readAml(body.subarray(terms)) }, end];
    }
    default:
      throw new Error(`no term ${code[at]} at ${at}`);
  }
}

/** §20.2.2: a segment of four characters, perhaps from the root. */
function readName(code: Buffer, at: number): [string, number] {
  const end = at + (code[at] === 0x5c ? 5 : 4);
  const name = code.toString('latin1', at, end);
  if (!/^\\?[A-Z_][A-Z0-9_]{3}$/.test(name)) throw new Error(`no name: ${name}`);
  return [name, end];
}

/** §20.2.4: the length counts itself. */
function readPackage(code: Buffer, at: number): { body: Buffer; end: number } {
  const lead = code.readUInt8(at);
  const more = lead >> 6;
  if (more === 0) return { body: slice(code, at + 1, at + lead), end: at + lead };
  if ((lead & 0x30) !== 0) throw new Error('reserved bits of a package length');
  const length = (lead & 0xf) | (code.readUIntLE(at + 1, more) << 4);
  return { body: slice(code, at + 1 + more, at + length), end: at + length };
}

function slice(code: Buffer, from: number, to: number): Buffer {
  if (to < from || to > code.length) throw new Error(`a package from ${from} to ${to} of ${code.length}`);
  return code.subarray(from, to);
}
