// @ts-check
/** What comes as Debian packages: programs for the host, and files for the guest that must not be installed on the host. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError, distribution, progress, query, root, run, which } from './system.mjs';

/** vhost-user with MSI-X under TCG crashes older ones (a null dereference in virtio-pci's irqfd code). */
const OLDEST_QEMU = 8;

/** @returns {boolean} whether a QEMU that is new enough is on PATH */
function qemuIsThere() {
  const version = query('qemu-system-x86_64', ['--version']);
  return Number(/version (\d+)\./.exec(version ?? '')?.[1] ?? 0) >= OLDEST_QEMU;
}

/** @returns {boolean} whether static C programs can be linked */
function staticLibcIsThere() {
  const path = query('gcc', ['-print-file-name=libc.a'])?.trim();
  return path !== undefined && path.startsWith('/') && existsSync(path);
}

/** @type {{ packages: string[], isThere: () => boolean }[]} */
const NEEDED = [
  { packages: ['cmake'], isThere: () => which('cmake') !== undefined },
  { packages: ['g++'], isThere: () => which('g++') !== undefined },
  { packages: ['make'], isThere: () => which('make') !== undefined },
  { packages: ['gcc', 'libc6-dev'], isThere: staticLibcIsThere },
  { packages: ['linux-libc-dev'], isThere: () => existsSync('/usr/include/linux/kvm.h') },
  { packages: ['lz4'], isThere: () => which('lz4') !== undefined },
  { packages: ['xz-utils'], isThere: () => which('xz') !== undefined },
  { packages: ['zstd'], isThere: () => which('zstd') !== undefined },
  { packages: ['e2fsprogs'], isThere: () => which('mke2fs') !== undefined },
  { packages: ['ethtool'], isThere: () => which('ethtool') !== undefined },
  { packages: ['qemu-system-x86'], isThere: qemuIsThere },
];

/** Installs the host's programs that are missing. */
export async function installPrograms() {
  const missing = NEEDED.filter(({ isThere }) => !isThere()).flatMap(({ packages }) => packages);
  if (missing.length === 0) return;
  if (which('apt-get') === undefined) {
    throw new SetupError(
      `missing: ${missing.join(', ')} (QEMU ${OLDEST_QEMU} or newer), and there is no apt-get; install them with this system's package manager`,
    );
  }
  progress(`installing Debian packages: ${missing.join(', ')}`);
  await updateLists();
  const others = missing.filter((name) => name !== 'qemu-system-x86');
  if (others.length > 0) await install(others, []);
  if (missing.includes('qemu-system-x86')) await installQemu();
}

/** QEMU from the distribution, or from bookworm-backports on Debian 12, whose own is too old. */
async function installQemu() {
  const { id, codename } = distribution();
  if (id === 'debian' && codename === 'bookworm') {
    await addBackports();
    await install(['qemu-system-x86'], ['-t', 'bookworm-backports']);
  } else {
    await install(['qemu-system-x86'], []);
  }
  if (!qemuIsThere()) {
    throw new SetupError(
      `this distribution's qemu-system-x86 is older than ${OLDEST_QEMU}; install QEMU ${OLDEST_QEMU} or newer yourself, then try again`,
    );
  }
}

/** Adds bookworm-backports to apt, from the mirror that apt already uses. Its packages are taken on demand only. */
async function addBackports() {
  const format = '$(REPO_URI) $(RELEASE)';
  const targets = (query('apt-get', ['indextargets', '--format', format]) ?? '').split('\n');
  if (targets.some((line) => line.endsWith(' bookworm-backports'))) return;
  const mirror = targets.find((line) => line.endsWith(' bookworm'))?.split(' ')[0];
  if (mirror === undefined) throw new SetupError('apt has no source for bookworm; add one to /etc/apt/sources.list');
  progress('adding bookworm-backports to apt (/etc/apt/sources.list.d/slipway-backports.list) for a newer QEMU');
  const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
  const signedBy = existsSync(keyring) ? `[signed-by=${keyring}] ` : '';
  const scratch = mkdtempSync('/tmp/slipway-apt-');
  try {
    const list = join(scratch, 'slipway-backports.list');
    writeFileSync(list, `deb ${signedBy}${mirror} bookworm-backports main\n`);
    await asRoot('install', ['-m', '644', list, '/etc/apt/sources.list.d/'], 'cannot add bookworm-backports to apt');
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  listsAreFresh = false;
  await updateLists();
}

let listsAreFresh = false;

/** `apt-get update`, once. */
async function updateLists() {
  if (listsAreFresh) return;
  await asRoot('apt-get', ['update'], 'apt-get update failed; check the network and /etc/apt/sources.list');
  listsAreFresh = true;
}

/**
 * @param {string[]} packages
 * @param {string[]} options
 */
async function install(packages, options) {
  await asRoot(
    'apt-get',
    ['install', '-y', '--no-install-recommends', ...options, ...packages],
    `cannot install ${packages.join(', ')}; install them yourself, then try again`,
  );
}

/**
 * @param {string} program
 * @param {string[]} args
 * @param {string} failure
 */
async function asRoot(program, args, failure) {
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  if (process.getuid?.() === 0) return run(program, args, { failure, env });
  if (which('sudo') === undefined) {
    throw new SetupError(
      `${failure} (this user is not root and there is no sudo: run as root: ${program} ${args.join(' ')})`,
    );
  }
  return run('sudo', ['-n', 'DEBIAN_FRONTEND=noninteractive', program, ...args], { failure });
}

/**
 * Downloads a Debian package and unpacks it into a folder without installing it: a kernel installed on the host would
 * become the host's next boot.
 * @param {string} name
 * @param {string} folder is made
 */
export async function unpackPackage(name, folder) {
  const scratch = join(root, '.cache', `download-${process.pid}`);
  mkdirSync(scratch, { recursive: true });
  try {
    const failure = `cannot download the Debian package ${name}`;
    await run('apt-get', ['download', name], { failure, cwd: scratch });
    const file = readdirSync(scratch).find((entry) => entry.endsWith('.deb'));
    if (file === undefined) throw new SetupError(`${failure} (apt-get download left no file)`);
    await run('dpkg-deb', ['-x', join(scratch, file), folder], { failure: `cannot unpack ${file}` });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/**
 * The package that a meta package such as linux-image-cloud-amd64 stands for now.
 * @param {string} meta
 * @param {RegExp} pattern what the dependency's name looks like
 * @returns {Promise<string>}
 */
export async function dependencyOf(meta, pattern) {
  if (which('apt-cache') === undefined) throw new SetupError(`cannot get ${meta}: there is no apt-get on this system`);
  await updateLists();
  for (const line of (query('apt-cache', ['depends', meta]) ?? '').split('\n')) {
    const name = /^\s*\|?Depends: (\S+)$/.exec(line)?.[1];
    if (name !== undefined && pattern.test(name)) return name;
  }
  throw new SetupError(`apt knows no package ${meta}; check /etc/apt/sources.list`);
}
