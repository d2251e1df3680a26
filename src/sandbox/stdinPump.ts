/** Feeds a command's standard input as its window allows. */
import type { Readable } from 'node:stream';
import { MAX_PAYLOAD, WINDOW } from './frames.js';

export interface StdinSink {
  data(chunk: Buffer): void;
  end(): void;
}

/**
 * Moves a source to a sink with at most WINDOW bytes that the guest hasn't consumed. The source is paused while the
 * window is full, and left alone once `stop` is called: a terminal goes on to belong to its program.
 */
export class StdinPump {
  #room = WINDOW;
  #queue: Buffer[] = [];
  #ended = false;
  #stopped = false;

  constructor(
    private readonly source: Readable,
    private readonly sink: StdinSink,
  ) {
    source.on('data', this.#onData);
    source.on('end', this.#onEnd);
    source.on('error', this.#onEnd);
    if (source.readableEnded || source.destroyed) this.#onEnd();
  }

  /** The guest has consumed `bytes`. */
  credit(bytes: number): void {
    this.#room += bytes;
    this.#flush();
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.source.off('data', this.#onData);
    this.source.off('end', this.#onEnd);
    this.source.off('error', this.#onEnd);
    this.source.pause();
  }

  readonly #onData = (chunk: Buffer | string): void => {
    this.#queue.push(Buffer.from(chunk));
    this.#flush();
  };

  readonly #onEnd = (): void => {
    this.#ended = true;
    this.#flush();
  };

  #flush(): void {
    if (this.#stopped) return;
    for (let first = this.#queue[0]; first !== undefined && this.#room > 0; first = this.#queue[0]) {
      const length = Math.min(first.length, this.#room, MAX_PAYLOAD);
      this.sink.data(first.subarray(0, length));
      this.#room -= length;
      if (length === first.length) this.#queue.shift();
      else this.#queue[0] = first.subarray(length);
    }
    if (this.#queue.length > 0) this.source.pause();
    else if (!this.#ended) this.source.resume();
    else {
      this.sink.end();
      this.stop();
    }
  }
}
