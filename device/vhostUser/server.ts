/**
 * The back end's end of the socket: listens for a front end, or connects to one that listens, again and again.
 * One front end is served at a time; whatever it does, the next one finds the server as the first did.
 */
import { lstatSync, unlinkSync } from 'node:fs';
import { addon as nativeAddon } from '../../src/native/addon.js';
import type { Addon, FdWatcher } from '../../src/native/addon.js';
import type { DeviceConfig, DeviceDataPlane } from '../dataPlane.js';
import { LimitedLog, type FrontLog } from '../limitedLog.js';
import { errorCode, errorText } from './errors.js';
import { VhostUserSession } from './session.js';
import type { SessionEnd } from './session.js';
import { listenOn, socketError } from './socketFile.js';

/**
 * A front end that comes while another is served waits so long for that one to leave: a VMM that restarts overtakes its
 * own goodbye. One that has not finished its first message by then loses its place to who waits.
 */
const TAKEOVER_MS = 1000;
/** Front ends that may wait so; one more, and the one that waits longest is refused: most likely it has gone by itself. */
const MAX_WAITING = 128;
/** Connections that have yet to send their first byte: they keep nobody waiting; with more the oldest is closed. */
const MAX_SILENT = 128;
/** Client mode: pause between attempts to connect. */
const RECONNECT_MS = 500;
/** Pause after accept(2) failed for want of descriptors or memory: the listening socket stays readable meanwhile. */
const ACCEPT_RETRY_MS = 1000;
/** Connections accepted in one turn of the event loop. */
const ACCEPTS_PER_TURN = 16;
/** Pause after a front end ended as so many before it: some try again at once, for ever. */
const REPEAT_PAUSE_MS = 50;
const REPEATS = 100;
const EAGAIN = 11;
const ECONNABORTED = 103;

export interface VhostUserServerOptions {
  /** Path of the UNIX socket. */
  readonly path: string;
  /** `server`: listens at the path. `client`: connects to a front end that listens there. */
  readonly mode: 'server' | 'client';
  readonly device: DeviceDataPlane;
  readonly config: DeviceConfig;
  readonly log: FrontLog;
  readonly onConnect?: () => void;
  /** Called once the front end's memory, rings and descriptors are released. */
  readonly onDisconnect?: () => void;
  /** The door to the kernel; for tests of its failures. */
  readonly addon?: Addon;
}

interface Waiting {
  readonly fd: number;
  readonly timer: NodeJS.Timeout;
}

export class VhostUserServer {
  private readonly addon: Addon;
  private session: VhostUserSession | undefined;
  /** When it began, ms. */
  private servedSince = 0;
  private serving: Promise<void> = Promise.resolve();
  private readonly silent = new Map<number, FdWatcher>();
  private readonly waiting: Waiting[] = [];
  private listenFd = -1;
  private removeSocketFile: () => void = () => undefined;
  private watcher: FdWatcher | undefined;
  private timer: NodeJS.Timeout | undefined;
  private closed = false;
  /** How the last front end ended, if not well: one that comes back only to end the same way is logged once. */
  private lastTrouble: string | undefined;
  /** How many have ended so, one after the other. */
  private repeats = 0;
  private saidWaiting = false;
  /** Said once for each front end served. */
  private saidRefused = false;

  private readonly options: VhostUserServerOptions;

  constructor(options: VhostUserServerOptions) {
    this.options = { ...options, log: new LimitedLog(options.log, 'vhost-user') };
    this.addon = options.addon ?? nativeAddon;
  }

  /**
   * Listens (mode `server`), or begins to look for a front end (mode `client`).
   * @throws {VhostUserSocketError} if the path can't be used.
   */
  start(): void {
    if (this.options.mode === 'client') {
      this.connect();
      return;
    }
    const { path } = this.options;
    this.listenFd = listenOn(this.addon, path);
    const { dev, ino } = lstatSync(path);
    this.removeSocketFile = () => removeIfSame(path, dev, ino);
    this.watchListener();
  }

  /** Whether a front end is connected. */
  get connected(): boolean {
    return this.session !== undefined;
  }

  /** Stops listening, drops the front end, and resolves once all it had handed over is released. */
  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    this.unwatchListener();
    if (this.listenFd >= 0) {
      this.removeSocketFile();
      this.addon.close(this.listenFd);
      this.listenFd = -1;
    }
    for (const fd of this.silent.keys()) this.closeSilent(fd);
    for (const { fd, timer } of this.waiting.splice(0)) {
      clearTimeout(timer);
      this.addon.close(fd);
    }
    this.session?.close();
    await this.serving;
  }

  private watchListener(): void {
    this.watcher ??= this.addon.watch(this.listenFd, { readable: true }, () => this.accept());
  }

  private unwatchListener(): void {
    this.watcher?.close();
    this.watcher = undefined;
  }

  private accept(): void {
    for (let n = 0; n < ACCEPTS_PER_TURN; n++) {
      const fd = this.addon.unixAccept(this.listenFd);
      if (fd >= 0) this.expect(fd);
      else if (fd === -EAGAIN) return;
      else if (fd !== -ECONNABORTED) return this.pauseAccepting(-fd);
    }
  }

  /** Out of descriptors, most likely. Whoever waits stays in the socket's backlog. */
  private pauseAccepting(errno: number): void {
    this.options.log.warn(
      `vhost-user: can't accept a front end (errno ${errno}); trying again in ${ACCEPT_RETRY_MS} ms`,
    );
    this.unwatchListener();
    this.later(ACCEPT_RETRY_MS, () => this.watchListener());
  }

  /** Front ends speak first: who doesn't is not let in. */
  private expect(fd: number): void {
    const watcher = this.addon.watch(fd, { readable: true }, () => {
      watcher.close();
      this.silent.delete(fd);
      this.admit(fd);
    });
    this.silent.set(fd, watcher);
    if (this.silent.size > MAX_SILENT) this.closeSilent(this.silent.keys().next().value!);
  }

  private closeSilent(fd: number): void {
    this.silent.get(fd)!.close();
    this.silent.delete(fd);
    this.addon.close(fd);
  }

  private admit(fd: number): void {
    if (this.session === undefined) {
      this.serve(fd);
      return;
    }
    const waiting: Waiting = { fd, timer: setTimeout(() => this.giveUpWaiting(waiting), TAKEOVER_MS) };
    this.waiting.push(waiting);
    if (this.waiting.length > MAX_WAITING) this.refuse(this.waiting.shift()!);
  }

  private giveUpWaiting(waiting: Waiting): void {
    // Its turn may come: thousands of flows may have to end first.
    if (this.session?.over === true) {
      waiting.timer.refresh();
      return;
    }
    // A timer that is a little early must not cost the one who waits its place.
    const silent = this.session?.spoke === false && performance.now() - this.servedSince > TAKEOVER_MS / 2;
    if (silent) {
      this.options.log.warn(
        `vhost-user: dropped a front end at ${this.options.path} that didn't finish its first message: another one waits`,
      );
      this.session?.close();
      waiting.timer.refresh();
      return;
    }
    this.waiting.splice(this.waiting.indexOf(waiting), 1);
    this.refuse(waiting);
  }

  private refuse({ fd, timer }: Waiting): void {
    clearTimeout(timer);
    this.addon.close(fd);
    if (this.saidRefused) return;
    this.saidRefused = true;
    this.options.log.warn(`vhost-user: refused another front end at ${this.options.path}: one is connected already`);
  }

  private serve(fd: number): void {
    const { device, config, log, path } = this.options;
    const connected = `vhost-user: a front end connected at ${path}`;
    // After trouble, a connection alone proves nothing.
    const afterTrouble = this.lastTrouble !== undefined;
    const session = new VhostUserSession(this.addon, fd, device, config, log, () => {
      if (afterTrouble) log.info(connected);
    });
    this.session = session;
    this.servedSince = performance.now();
    this.saidRefused = false;
    if (!afterTrouble) log.info(connected);
    this.options.onConnect?.();
    this.serving = session.run().then((end) => this.ended(end));
  }

  private ended(end: SessionEnd): void {
    this.session = undefined;
    this.repeats = this.report(end) && end.spoke ? this.repeats + 1 : 0;
    this.options.onDisconnect?.();
    if (this.closed) return;
    if (this.options.mode === 'client') {
      this.later(RECONNECT_MS, () => this.reconnect());
    } else if (this.repeats > REPEATS) {
      this.unwatchListener();
      this.later(REPEAT_PAUSE_MS, () => this.serveNext());
    } else {
      this.serveNext();
    }
  }

  /** Says how a front end ended. Returns whether it was the same trouble as with the last one. */
  private report({ failure, setUp }: SessionEnd): boolean {
    const { log, path, config } = this.options;
    if (failure === undefined && setUp) {
      if (!this.closed) log.info(`vhost-user: the front end at ${path} left`);
      this.lastTrouble = undefined;
      return false;
    }
    const trouble =
      failure === undefined
        ? `vhost-user: the front end at ${path} left before it shared memory, as QEMU does if it wants more queues than the ${config.pairs} pairs of this device`
        : `vhost-user: dropped the front end at ${path}: ${failure}`;
    const repeated = trouble === this.lastTrouble;
    this.lastTrouble = trouble;
    if (!repeated && failure !== undefined) log.warn(trouble);
    else if (!repeated && !this.closed) log.info(trouble);
    return repeated;
  }

  /** Who came last is served first: those before have most likely gone by themselves, and each takes its time to end. */
  private serveNext(): void {
    const next = this.waiting.pop();
    if (next !== undefined) {
      clearTimeout(next.timer);
      this.serve(next.fd);
    }
    this.watchListener();
  }

  /** Client mode: connects, or tries again later if nobody listens yet. Throws if the path can never work. */
  private connect(): void {
    const { path, log } = this.options;
    let fd: number;
    try {
      fd = this.addon.unixConnect(path);
    } catch (error) {
      // EAGAIN: the front end's backlog is full.
      if (!['ENOENT', 'ECONNREFUSED', 'EAGAIN'].includes(errorCode(error)))
        throw socketError(path, error, 'connect to');
      if (!this.saidWaiting) log.info(`vhost-user: waiting for a front end to listen at ${path}`);
      this.saidWaiting = true;
      this.later(RECONNECT_MS, () => this.reconnect());
      return;
    }
    this.saidWaiting = false;
    this.serve(fd);
  }

  private reconnect(): void {
    try {
      this.connect();
    } catch (error) {
      const text = errorText(error);
      if (text !== this.lastTrouble) this.options.log.warn(`vhost-user: ${text}`);
      this.lastTrouble = text;
      this.later(RECONNECT_MS, () => this.reconnect());
    }
  }

  private later(ms: number, action: () => void): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(action, ms);
  }
}

/** Removes the socket file unless somebody has put another in its place. */
function removeIfSame(path: string, dev: number, ino: number): void {
  try {
    const now = lstatSync(path);
    if (now.dev === dev && now.ino === ino) unlinkSync(path);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}
