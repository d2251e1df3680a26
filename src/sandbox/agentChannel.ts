/** The host's end of the port to the guest's agent: several commands at once over one stream. */
import type { Duplex } from 'node:stream';
import { Command } from './command.js';
import type { CommandStreams } from './command.js';
import { Deferred } from './deferred.js';
import { FrameReader, FrameType, encodeFrame, encodeStart } from './frames.js';
import type { Frame, StartRequest } from './frames.js';

export class AgentChannel {
  /** Resolves once the guest has booted, with a complaint about its network; empty if it is up. */
  readonly ready: Promise<string>;
  readonly #ready = new Deferred<string>();
  readonly #reader = new FrameReader();
  readonly #commands = new Map<number, Command>();
  #nextRun = 1;
  #failure: Error | undefined;

  /** @param port carries the frames; its errors and its end are left to the owner, who calls `fail` */
  constructor(private readonly port: Duplex) {
    this.ready = this.#ready.promise;
    // Nobody may be waiting when the guest goes.
    this.ready.catch(() => {});
    port.on('data', (chunk: Buffer) => this.#receive(chunk));
  }

  /**
   * Starts a command in the guest.
   * @throws {RangeError} for a command that can't be sent
   * @throws {SandboxError} if the guest is gone
   */
  start(request: StartRequest, streams: CommandStreams): Command {
    const payload = encodeStart(request);
    if (this.#failure !== undefined) throw this.#failure;
    const run = this.#nextRun++;
    this.#send(FrameType.start, run, payload);
    const command = new Command(streams, (type, data) => this.#send(type, run, data));
    this.#commands.set(run, command);
    return command;
  }

  /** Ends all that is going on: the guest is gone. */
  fail(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#ready.reject(error);
    for (const command of this.#commands.values()) command.fail(error);
    this.#commands.clear();
  }

  #send(type: number, run: number, payload: Uint8Array): void {
    if (this.#failure === undefined && this.port.writable) this.port.write(encodeFrame(type, run, payload));
  }

  #receive(chunk: Buffer): void {
    if (this.#failure !== undefined) return;
    try {
      for (const frame of this.#reader.push(chunk)) this.#handle(frame);
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #handle(frame: Frame): void {
    if (frame.type === FrameType.ready) this.#ready.resolve(frame.payload.toString());
    else if (this.#commands.get(frame.run)?.handle(frame)) this.#commands.delete(frame.run);
  }
}
