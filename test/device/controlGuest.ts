/** The guest of `queueGuest.ts` over vhost-user. */
import { FrontEnd as DriverFrontEnd } from '../../bench/driver/frontEnd.js';
import { addon } from '../../src/native/addon.js';
import { CONTROL, FEATURES, QueueGuest } from './queueGuest.js';
import * as fe from './vhostUser/frontEnd.js';

export class ControlGuest extends QueueGuest {
  private readonly kicks: number[];
  private readonly calls = new Map<number, number>();
  private readonly driver: DriverFrontEnd;

  private constructor(
    readonly raw: fe.FrontEnd,
    features: bigint,
    receiveBuffer?: number,
  ) {
    super(features, receiveBuffer);
    this.kicks = this.queues.map(() => addon.eventfdCreate());
    this.fds.push(...this.kicks);
    this.driver = new DriverFrontEnd(raw.fd);
  }

  /** Connects and starts these rings, all enabled but those in `disabled`. */
  static async open(
    path: string,
    {
      features = FEATURES,
      rings = [0, 1, 2, 3, CONTROL],
      disabled = [] as readonly number[],
      receiveBuffer = undefined as number | undefined,
    } = {},
  ): Promise<ControlGuest> {
    const guest = new ControlGuest(fe.FrontEnd.connect(path), features, receiveBuffer);
    await guest.raw.ask(fe.GET_FEATURES);
    guest.raw.send(fe.SET_PROTOCOL_FEATURES, fe.u64(fe.PROTOCOL_F_REPLY_ACK));
    await guest.start(rings, disabled);
    return guest;
  }

  async start(rings: readonly number[], disabled: readonly number[] = []): Promise<void> {
    await this.raw.ack(fe.SET_FEATURES, fe.u64(this.features | fe.F_PROTOCOL_FEATURES));
    await this.shareMemory();
    for (const ring of rings) {
      const call = addon.eventfdCreate();
      this.fds.push(call);
      this.calls.set(ring, call);
      await this.driver.startQueue(ring, this.queues[ring]!.layout, this.kicks[ring]!, call, 0, this.memory.shape);
      await this.driver.enableQueue(ring, !disabled.includes(ring));
    }
    this.postAll();
    await this.raw.settled();
  }

  /** Tells the memory table, anew if it was told before: running rings pause and go on. */
  async shareMemory(): Promise<void> {
    await this.driver.setMemory(this.memory.shape);
    await this.raw.settled();
  }

  protected notify(ring: number): void {
    addon.eventfdSignal(this.kicks[ring]!);
  }

  interrupted(ring: number): boolean {
    return addon.eventfdDrain(this.calls.get(ring)!) === 0;
  }

  override [Symbol.dispose](): void {
    this.raw.close();
    super[Symbol.dispose]();
  }
}
