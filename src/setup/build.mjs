// @ts-check
/** What is built from the checkout: npm packages, the addon, the compiled TypeScript. */
import { chmodSync, existsSync, readFileSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { progress, root, run } from './system.mjs';

const SOURCE_FOLDERS = ['src', 'device', 'arch', 'workers', 'bench', 'test'];

/** `npm ci` unless what is installed is what the lock file names. */
export async function installModules() {
  if (modulesMatchLock()) return;
  progress('installing npm packages (npm ci)');
  await run('npm', ['ci', '--no-audit', '--no-fund'], {
    failure: 'npm ci failed; check the network and the npm registry',
  });
}

/** @returns {boolean} whether node_modules holds the versions of package-lock.json; other platforms' packages don't count */
function modulesMatchLock() {
  const installedPath = join(root, 'node_modules/.package-lock.json');
  if (!existsSync(installedPath)) return false;
  const installed = JSON.parse(readFileSync(installedPath, 'utf8')).packages;
  const locked = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(locked).every(
    ([path, entry]) =>
      path === '' ||
      (entry.optional === true && installed[path] === undefined) ||
      installed[path]?.version === entry.version,
  );
}

/** The addon by cmake-js, when a source is newer. */
export async function buildAddon() {
  const addon = join(root, 'build/Release/slipway.node');
  const newest = Math.max(
    newestIn(join(root, 'src/native'), /\.(cc|cpp|c|h|hpp)$/),
    statSync(join(root, 'CMakeLists.txt')).mtimeMs,
  );
  if (existsSync(addon) && statSync(addon).mtimeMs >= newest) return;
  progress('compiling the addon (cmake-js)');
  await run('npm', ['run', '--silent', 'build:addon'], {
    failure: 'the addon does not compile; try npm run build:addon',
  });
  const now = new Date();
  utimesSync(addon, now, now);
}

/** The TypeScript by tsc, when a source is newer; leaves the CLI executable for `npx slipway`. */
export async function compileTypeScript() {
  const stamp = join(root, 'dist/.compiled');
  const newest = Math.max(
    ...SOURCE_FOLDERS.map((folder) => newestIn(join(root, folder), /\.ts$/)),
    statSync(join(root, 'tsconfig.json')).mtimeMs,
  );
  if (existsSync(stamp) && statSync(stamp).mtimeMs >= newest) return;
  progress('compiling the TypeScript (tsc)');
  await run('npm', ['run', '--silent', 'build:ts'], {
    failure: 'the TypeScript does not compile; try npm run build:ts',
  });
  chmodSync(join(root, 'dist/src/cli/main.js'), 0o755);
  writeFileSync(stamp, '');
}

/**
 * When the newest of a folder's files changed, ms since 1970.
 * @param {string} folder
 * @param {RegExp} pattern
 * @returns {number}
 */
function newestIn(folder, pattern) {
  if (!existsSync(folder)) return 0;
  let newest = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) newest = Math.max(newest, newestIn(path, pattern));
    else if (pattern.test(entry.name)) newest = Math.max(newest, statSync(path).mtimeMs);
  }
  return newest;
}
