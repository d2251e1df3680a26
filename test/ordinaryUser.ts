/** Tests of permissions, which root has all of. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const NOBODY = 65_534;

/** Does that as a user who is not root, with a file that this user may not open. */
export async function withForbiddenFile<T>(body: (path: string) => T | Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-forbidden-'));
  chmodSync(folder, 0o755);
  const path = join(folder, 'kvm');
  writeFileSync(path, '', { mode: 0 });
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(NOBODY);
  try {
    return await body(path);
  } finally {
    if (isRoot) process.seteuid?.(0);
    rmSync(folder, { recursive: true });
  }
}
