/** What a thread of this process allocates, by V8's sampling heap profiler, through the inspector: the thread need not help. */
import { once } from 'node:events';
import { Session } from 'node:inspector';
import type { HeapProfiler, NodeWorker } from 'node:inspector';

/** Mean bytes between two samples: of 100 KiB, some 400 are seen. */
const SAMPLING_INTERVAL = 256;

/** Bytes by function that allocated them, most first. */
export type Allocations = readonly (readonly [string, number])[];

export function allocatedBytes(allocations: Allocations): number {
  return allocations.reduce((sum, [, bytes]) => sum + bytes, 0);
}

interface Reply {
  readonly id?: number;
  readonly result?: object;
}

export class WorkerHeap implements Disposable {
  private readonly session = new Session();
  private sessionId = '';
  private lastId = 0;

  /** Attaches to the only worker thread that this process has. */
  static async attach(): Promise<WorkerHeap> {
    const heap = new WorkerHeap();
    const { session } = heap;
    session.connect();
    const attached = once(session, 'NodeWorker.attachedToWorker');
    session.post('NodeWorker.enable', { waitForDebuggerOnStart: false });
    const [{ params }] = (await attached) as [{ params: NodeWorker.AttachedToWorkerEventDataType }];
    heap.sessionId = params.sessionId;
    return heap;
  }

  async start(): Promise<void> {
    const options: HeapProfiler.StartSamplingParameterType = { samplingInterval: SAMPLING_INTERVAL };
    const all = { includeObjectsCollectedByMajorGC: true, includeObjectsCollectedByMinorGC: true };
    await this.post('HeapProfiler.startSampling', { ...options, ...all });
  }

  /** What was allocated since `start`, whether it is alive or not. */
  async stop(): Promise<Allocations> {
    const { profile } = (await this.post('HeapProfiler.stopSampling', {})) as HeapProfiler.StopSamplingReturnType;
    const bytes = new Map<string, number>();
    const nodes = [profile.head];
    for (let node = nodes.pop(); node !== undefined; node = nodes.pop()) {
      const { functionName, url, lineNumber } = node.callFrame;
      const name = `${functionName} ${url.split('/').pop()}:${lineNumber + 1}`;
      bytes.set(name, (bytes.get(name) ?? 0) + node.selfSize);
      nodes.push(...node.children);
    }
    return [...bytes].filter(([, size]) => size > 0).toSorted(([, a], [, b]) => b - a);
  }

  [Symbol.dispose](): void {
    this.session.disconnect();
  }

  private async post(method: string, params: object): Promise<object> {
    const id = ++this.lastId;
    const { sessionId } = this;
    return new Promise((resolve) => {
      const listener = ({ params: received }: { params: NodeWorker.ReceivedMessageFromWorkerEventDataType }): void => {
        const reply = JSON.parse(received.message) as Reply;
        if (received.sessionId !== sessionId || reply.id !== id) return;
        this.session.off('NodeWorker.receivedMessageFromWorker', listener);
        resolve(reply.result ?? {});
      };
      this.session.on('NodeWorker.receivedMessageFromWorker', listener);
      this.session.post('NodeWorker.sendMessageToWorker', {
        sessionId,
        message: JSON.stringify({ id, method, params }),
      });
    });
  }
}
