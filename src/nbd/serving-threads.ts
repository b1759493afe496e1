/**
 * The threads of `attach --jobs`: each has a shard of the cache and serves its share of the clients, and of the queues of
 * a ublk device (`serve-worker.ts`). This side takes clients and hands them over, and asks the threads what they have done.
 */
import type { Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import type { QueuePlace, ServedQueue } from '../block-device/ublk-queue.js';
import { asSystemError, nativeAddon, type NativeError } from '../engine/device/native.js';
import { errorOf, PcacheError } from '../engine/errors.js';
import { layout } from '../layout/layout.js';
import { sumOfActivities, type Activity } from './activity.js';
import type { NewClient, ServedClient, Service, Tell } from './service.js';
import type { FromServing, ServingData, ThreadStatus, ToServing } from './serving-messages.js';
import { ServerStats } from './stats.js';

interface HandleHolder {
  readonly _handle?: { readonly fd?: number } | null;
}

interface Thread {
  readonly worker: Worker;
  readonly exited: Promise<void>;
  clients: number;
  isGone: boolean;
}

interface RemoteClient {
  readonly thread: Thread;
  readonly onReleased: () => void;
}

interface RemoteQueue {
  readonly thread: Thread;
  readonly served: (error: PcacheError | undefined) => void;
  readonly ended: (errno: number) => void;
  closed: () => void;
}

interface Question {
  readonly thread: Thread;
  readonly resolve: (status: ThreadStatus) => void;
  readonly reject: (error: PcacheError) => void;
}

export class ServingThreads implements Service {
  readonly stats = new ServerStats();
  /** Rejects when a thread has ended though nobody told it to. */
  readonly broken: Promise<never>;
  private breaks!: (error: Error) => void;
  private readonly threads: readonly Thread[];
  private readonly clients = new Map<number, RemoteClient>();
  private readonly queues = new Map<number, RemoteQueue>();
  private readonly questions = new Map<number, Question>();
  /** Of clients, queues and questions. */
  private numbers = 0;
  private isEnding = false;

  /** Starts a thread for each element of `data`. */
  constructor(
    data: readonly ServingData[],
    private readonly tell: Tell,
  ) {
    this.broken = new Promise((_, reject) => (this.breaks = reject));
    this.broken.catch(() => {}); // whoever waits for something else gets the error
    this.threads = data.map((workerData) => this.startThread(workerData));
  }

  private startThread(workerData: ServingData): Thread {
    const ports = workerData.exchange.ports.filter((port) => port !== undefined);
    const transferList = [workerData.shard.port, ...ports];
    const worker = new Worker(layout.workerModule('serve'), { workerData, transferList });
    const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
    const thread: Thread = { worker, exited, clients: 0, isGone: false };
    worker.on('message', (message: FromServing) => this.heard(message));
    worker.once('error', (error) => this.breaks(error));
    void exited.then(() => this.gone(thread));
    return thread;
  }

  // ---- clients ----------------------------------------------------------------------------------------

  connect({ socket, origin, isDevice, onReleased }: NewClient): ServedClient {
    const thread = this.threads.reduce((least, other) => (other.clients < least.clients ? other : least));
    const number = ++this.numbers;
    // Not a message: a client that has just been admitted must not be taken for one that makes room for the next.
    const admitted = new Int32Array(new SharedArrayBuffer(4));
    this.clients.set(number, { thread, onReleased });
    thread.clients++;
    const send = (message: ToServing) => thread.worker.postMessage(message);
    const fd = thread.isGone ? undefined : this.handOver(socket, origin);
    if (fd === undefined) {
      socket.destroy();
      queueMicrotask(() => this.released(number));
    } else {
      send({ kind: 'client', client: number, fd, origin, isDevice, admitted });
    }
    return {
      get isAdmitted(): boolean {
        return Atomics.load(admitted, 0) === 1;
      },
      stop: () => send({ kind: 'stop', client: number }),
      destroy: () => send({ kind: 'destroy', client: number }),
      evict: () => send({ kind: 'evict', client: number }),
    };
  }

  /** Gives up a socket that nothing was read from. @returns its file, for another thread; undefined when there is none */
  private handOver(socket: Socket, origin: string): number | undefined {
    const fd = (socket as unknown as HandleHolder)._handle?.fd ?? -1;
    if (fd < 0) return undefined; // it is closed
    try {
      const duplicate = nativeAddon().duplicate(fd);
      socket.destroy();
      return duplicate;
    } catch (error) {
      this.stats.refused++;
      const { message } = asSystemError(error as NativeError);
      this.tell('refused', `refused a client from ${origin}: ${message}; raise the limit of open files (ulimit -n)`);
      return undefined;
    }
  }

  private released(number: number): void {
    const client = this.clients.get(number);
    if (!this.clients.delete(number)) return;
    client!.thread.clients--;
    client!.onReleased();
  }

  // ---- queues of a ublk device ------------------------------------------------------------------------

  async serveQueue(place: QueuePlace, ended: (errno: number) => void): Promise<ServedQueue> {
    const thread = this.threads[place.number % this.threads.length];
    const number = ++this.numbers;
    const error = await new Promise<PcacheError | undefined>((served) => {
      this.queues.set(number, { thread, served, ended, closed: () => {} });
      thread.worker.postMessage({ kind: 'queue', queue: number, place } satisfies ToServing);
    });
    if (error !== undefined) throw error;
    return { close: () => this.closeQueue(number) };
  }

  private closeQueue(number: number): Promise<void> {
    return new Promise((closed) => {
      const queue = this.queues.get(number);
      if (queue === undefined) {
        closed();
        return;
      }
      queue.closed = closed;
      queue.thread.worker.postMessage({ kind: 'close queue', queue: number } satisfies ToServing);
    });
  }

  // ---- what they have done ----------------------------------------------------------------------------

  /** @throws PcacheError CLOSED when a thread has ended */
  statuses(): Promise<readonly ThreadStatus[]> {
    return Promise.all(
      this.threads.map((thread) => {
        const id = ++this.numbers;
        return new Promise<ThreadStatus>((resolve, reject) => {
          if (thread.isGone) {
            reject(goneError());
            return;
          }
          this.questions.set(id, { thread, resolve, reject });
          thread.worker.postMessage({ kind: 'status', id } satisfies ToServing);
        });
      }),
    );
  }

  async activity(): Promise<Activity> {
    const all = await this.statuses();
    return sumOfActivities(
      this.stats,
      all.map(({ activity }) => activity),
    );
  }

  stopPacing(): void {
    for (const { worker } of this.threads) worker.postMessage({ kind: 'stop pacing' } satisfies ToServing);
  }

  private heard(message: FromServing): void {
    switch (message.kind) {
      case 'released':
        this.released(message.client);
        break;
      case 'queue served':
        this.queues.get(message.queue)?.served(message.error && errorOf(message.error));
        break;
      case 'queue ended':
        this.queues.get(message.queue)?.ended(message.errno);
        break;
      case 'queue closed':
        this.queues.get(message.queue)?.closed();
        this.queues.delete(message.queue);
        break;
      case 'status':
        this.questions.get(message.id)?.resolve(message.status);
        this.questions.delete(message.id);
        break;
      case 'tell':
        this.tell(message.of, message.text);
    }
  }

  // ---- their end --------------------------------------------------------------------------------------

  /** A thread has ended. If it was not to, nothing that it had is answered any more, in whatever thread the client is. */
  private gone(gone: Thread): void {
    gone.isGone = true;
    for (const [number, queue] of this.queues) {
      if (queue.thread !== gone) continue;
      queue.served(goneError());
      queue.ended(0);
      queue.closed();
      this.queues.delete(number);
    }
    for (const [id, { thread, reject }] of this.questions) {
      if (thread !== gone) continue;
      this.questions.delete(id);
      reject(goneError());
    }
    if (this.isEnding) return;
    this.breaks(goneError());
    for (const [number, { thread }] of this.clients) {
      thread.worker.postMessage({ kind: 'destroy', client: number } satisfies ToServing);
      this.released(number);
    }
  }

  /** Resolves when the threads have ended, which they do when the cache is closed. */
  async end(): Promise<void> {
    this.isEnding = true;
    await Promise.all(this.threads.map(({ exited }) => exited));
  }

  /** Ends the threads whatever they are doing. */
  async stop(): Promise<void> {
    this.isEnding = true;
    await Promise.all(this.threads.map(({ worker }) => worker.terminate()));
  }
}

function goneError(): PcacheError {
  return new PcacheError('CLOSED', 'a thread of the server has ended');
}
