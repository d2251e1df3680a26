/**
 * Who shares a worker shares it fairly: a connection takes as many of its cycles beside hundreds of downloads as alone, and the
 * cycles are no longer. Worker, guests and servers live in this thread, so that cycles can be counted.
 */
import { describe, expect, it } from 'vitest';
import { DEVICE_FEATURES } from '../../device/features.js';
import { type Addon, addon } from '../../src/native/addon.js';
import { DEFAULT_ADDRESSES } from '../../workers/nat/addresses.js';
import { DEFAULT_TCP_TIMES, DEFAULT_UDP_TIMES } from '../../workers/nat/settings.js';
import { PollWorker } from '../../workers/pollWorker.js';
import { createPoolMemory } from '../../workers/poolMemory.js';
import { restoreDevice } from '../../workers/snapshot.js';
import { ScratchGuest } from '../../workers/warmUp/scratchGuest.js';
import { ScratchRings } from '../../workers/warmUp/scratchRings.js';

const FEATURES = [Number(BigInt.asIntN(32, DEVICE_FEATURES)), Number(DEVICE_FEATURES >> 32n)] as const;
const nothing = (): boolean => false;
const PORT = 80;
const DOWNLOAD_PORT = 81;

/** Servers at the other ends of socket pairs: they send without end at the ports of downloads, elsewhere what they hear. */
class Servers implements Disposable {
  readonly addon: Addon = {
    ...addon,
    tcpSocket: () => this.open(),
    connect4: (fd, _address, port) => this.connected(fd, port),
    discard: (fd, length) => this.receive(fd, length),
  };
  private readonly peers = new Map<number, { peer: number; port: number }>();
  private readonly region = addon.createRegion(1 << 16).region;
  private round = 0;
  iovecs: Uint32Array = new Uint32Array(0);

  private open(): number {
    const [socket, peer] = addon.socketPair();
    this.peers.set(socket, { peer, port: 0 });
    return socket;
  }

  private connected(fd: number, port: number): number {
    this.peers.get(fd)!.port = port;
    return 0;
  }

  private receive(fd: number, length: number): number {
    this.iovecs.set([this.region, 0, Math.min(length, 1 << 16)], this.iovecs.length - 3);
    return addon.recvmsg(fd, this.iovecs.length / 3 - 1, 1, 0);
  }

  private send(fd: number, length: number): number {
    this.iovecs.set([this.region, 0, length], this.iovecs.length - 3);
    return addon.sendmsg(fd, this.iovecs.length / 3 - 1, 1, 0);
  }

  /** Downloads have enough to go on with for some cycles: of them only a few are served in each. */
  serve(): void {
    this.round++;
    for (const [socket, { peer, port }] of this.peers) {
      if (port === DOWNLOAD_PORT && (socket + this.round) % 16 !== 0) continue;
      const bytes = this.receive(peer, 1 << 16);
      if (bytes === 0) {
        addon.close(peer);
        this.peers.delete(socket);
      } else if (port !== PORT) while (this.send(peer, 1 << 16) > 0);
      else if (bytes > 0) this.send(peer, bytes);
    }
  }

  [Symbol.dispose](): void {
    for (const { peer } of this.peers.values()) addon.close(peer);
    addon.unmapRegion(this.region);
  }
}

/** One worker and its guests, one device each. */
class World implements Disposable {
  readonly guests: ScratchGuest[] = [];
  readonly worker: PollWorker;
  private readonly servers = new Servers();
  private readonly wakeFd = addon.eventfdCreate();
  private readonly fds = [this.wakeFd];
  private readonly kicks: number[] = [];

  constructor() {
    const epoll = addon.epollCreate();
    this.fds.push(epoll);
    this.worker = new PollWorker(this.servers.addon, {
      worker: 0,
      memory: createPoolMemory({ workers: 1, devices: 2, pairs: 1, flows: 4_096 }, 7),
      engine: 'epoll',
      epoll,
      wakeFds: [this.wakeFd],
      addresses: DEFAULT_ADDRESSES,
      allowHostLoopback: false,
      times: DEFAULT_TCP_TIMES,
      udpTimes: DEFAULT_UDP_TIMES,
      resolver: new Int32Array(1),
      peekOffset: true,
      mostReceiveBuffer: 0,
      seed: 7,
    });
    this.servers.iovecs = this.worker.thread.iovecs;
  }

  addGuest(flows: number, portOf?: (flow: number) => number): ScratchGuest {
    const device = this.guests.length;
    const { fd, windows } = ScratchRings.windows(addon);
    const kickFds = [addon.eventfdCreate(), addon.eventfdCreate()];
    this.fds.push(fd, ...kickFds);
    this.kicks.push(...kickFds);
    const queues = ScratchRings.queues(kickFds, -1);
    restoreDevice(this.worker, { device, pairs: 1, mtu: 1500, features: FEATURES, windows, queues });
    this.worker.queuesChanged();
    const guest = new ScratchGuest(new ScratchRings(this.worker.devices[device]!.memory), flows, portOf);
    this.guests.push(guest);
    return guest;
  }

  cycle(): void {
    for (const guest of this.guests) guest.run();
    this.servers.serve();
    for (const fd of [...this.kicks, this.wakeFd]) addon.eventfdSignal(fd);
    this.worker.cycle(nothing, nothing, () => expect.fail('a queue broke'));
  }

  /** By how much `count` grows in CYCLES once all goes its way. */
  growth(count: () => number): number {
    for (let n = 0; n < BEFORE; n++) this.cycle();
    const before = count();
    for (let n = 0; n < CYCLES; n++) this.cycle();
    return count() - before;
  }

  [Symbol.dispose](): void {
    for (const device of [0, 1]) if (this.worker.devices[device]) this.worker.dropFlows(device);
    for (const device of this.worker.devices) device?.memory.clear();
    this.servers[Symbol.dispose]();
    for (const fd of this.fds) addon.close(fd);
  }
}

const download = (): number => DOWNLOAD_PORT;
const DOWNLOADS = 600;
/** Cycles until all are open and have become bulk; cycles in which connections are counted. */
const BEFORE = 900;
const CYCLES = 300;

describe('a connection', () => {
  it.each([
    [
      "another guest's downloads",
      (world: World) => {
        world.addGuest(DOWNLOADS, download);
        return world.addGuest(1);
      },
    ],
    [
      'downloads of its own guest',
      (world: World) => world.addGuest(DOWNLOADS + 1, (flow) => (flow < DOWNLOADS ? DOWNLOAD_PORT : PORT)),
    ],
  ])('takes no more cycles beside %s', (_, populate) => {
    using alone = new World();
    const own = alone.addGuest(1);
    const connections = alone.growth(() => own.connections);
    using shared = new World();
    const guest = populate(shared);
    const beside = shared.growth(() => guest.connections);
    expect(shared.worker.flows.shard.size).toBeGreaterThan(DOWNLOADS);
    expect(CYCLES / beside).toBeLessThan(CYCLES / connections + 1);
  });
});
