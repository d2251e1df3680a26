/** The bare-metal guest that drives a network card from two vCPUs (`bareMetal/network.c`), on a real network. */
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { pino } from 'pino';
import { VirtioNetPci } from '../../device/pci/virtioNetPci.js';
import { addon } from '../../src/native/addon.js';
import { Network, type DeviceStats } from '../../src/network.js';
import type { MachineStats } from '../../src/vmm/machine.js';
import type { EventPaths } from '../../src/vmm/eventPaths.js';
import type { GuestEnd } from '../../src/vmm/vcpu.js';
import { ENGINE } from '../engineUnderTest.js';
import { bareMachine } from './bareMachine.js';
import { BareMetal } from './bareMetal.js';

/** What a scenario came to. */
export interface Outcome extends MachineStats {
  readonly end: GuestEnd;
  /** The guest's last line: `done`, or `failed: …`. */
  readonly verdict: string | undefined;
  /** What it reported. */
  readonly values: Readonly<Record<string, number>>;
  /** Notifications that reached the poll workers. */
  readonly kicks: number;
  /** What the network counted for its card. */
  readonly device: DeviceStats;
}

export class GuestNetwork implements AsyncDisposable {
  private constructor(
    private readonly guests: BareMetal,
    readonly kernel: string,
    readonly network: Network,
    private readonly echo: Server,
    private readonly closedPort: number,
    /** What the network logged. */
    readonly log: string[],
  ) {}

  static async create(workers = 2): Promise<GuestNetwork> {
    const guests = new BareMetal();
    const kernel = guests.build('network', 'pci.c', 'card.c', 'frames.c');
    const log: string[] = [];
    const network = await Network.create({
      engine: ENGINE,
      workers,
      queues: 2,
      allowHostLoopback: true,
      log: pino({ level: 'info' }, { write: (line) => void log.push((JSON.parse(line) as { msg: string }).msg) }),
    });
    const echo = await listening(createServer((socket) => socket.on('error', () => socket.destroy()).pipe(socket)));
    const closed = await listening(createServer());
    const { port } = closed.address() as AddressInfo;
    closed.close();
    await once(closed, 'close');
    return new GuestNetwork(guests, kernel, network, echo, port, log);
  }

  /** What the guest's command line says. */
  commandLine(scenario: string): string {
    return `${scenario} ${(this.echo.address() as AddressInfo).port} ${this.closedPort}`;
  }

  /** Runs a scenario on a machine of its own, to the guest's end. */
  async run(scenario: string, paths: Partial<EventPaths> = {}): Promise<Outcome> {
    const kicksBefore = this.network.stats().counters.kicks;
    const { machine, text } = await bareMachine(this.kernel, { commandLine: this.commandLine(scenario), paths });
    const { device, config, warn, detach } = await this.network.attach();
    try {
      const { memory } = machine;
      await device.setMemory(memory);
      machine.plug((platform) => new VirtioNetPci({ addon, platform, dataPlane: device, config, memory, warn }));
      machine.start();
      const end = await machine.ended;
      const lines = text().trimEnd().split('\n');
      const values = Object.fromEntries(
        lines.flatMap((line) => {
          const [, name, value] = /^([\w.]+)=(\d+)$/.exec(line) ?? [];
          return name === undefined ? [] : [[name, Number(value)]];
        }),
      );
      const { counters, devices } = this.network.stats();
      const kicks = counters.kicks - kicksBefore;
      return { end, verdict: lines.at(-1), values, ...machine.stats(), kicks, device: devices[0]! };
    } finally {
      await machine.close();
      await detach();
    }
  }

  /** Workers that died so far. */
  get deaths(): number {
    return this.network.stats().workers.reduce((sum, { deaths }) => sum + deaths, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.network.close();
    this.echo.close();
    this.guests[Symbol.dispose]();
  }
}

async function listening(server: Server): Promise<Server> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}
