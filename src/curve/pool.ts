/**
 * Runs jobs in worker threads, several at once, each in a thread of its own. The first failure ends all of them, as
 * does an interrupt. Jobs hold nothing outside their thread, so they are ended in the middle of anything.
 */
import { Worker } from 'node:worker_threads';
import { errorOf, type ErrorNote } from '../engine/errors.js';

/** What a worker says of its job. */
export type WorkerMessage =
  | { readonly kind: 'progress'; readonly done: number }
  | { readonly kind: 'outcome'; readonly outcome: unknown }
  | { readonly kind: 'failed'; readonly error: ErrorNote };

export interface PoolOptions {
  /** The module that each thread runs; it gets its job as `workerData` and says `WorkerMessage`s. */
  readonly module: URL;
  /** At once. */
  readonly threads: number;
  /** Told how much of a job is done, in the job's own unit. */
  readonly onProgress: (job: number, done: number) => void;
  readonly onEnded: (job: number) => void;
  /** Ends everything. */
  readonly signal: AbortSignal;
}

/**
 * @returns what each job gave; undefined for those that an interrupt kept from their end
 * @throws what the first job that failed threw
 */
export async function runInThreads<Job, Outcome>(
  jobs: readonly Job[],
  options: PoolOptions,
): Promise<(Outcome | undefined)[]> {
  const outcomes = new Array<Outcome | undefined>(jobs.length).fill(undefined);
  const ending = new AbortController();
  const end = () => ending.abort();
  options.signal.addEventListener('abort', end);
  if (options.signal.aborted) end();
  let next = 0;
  const serve = async (): Promise<void> => {
    while (next < jobs.length && !ending.signal.aborted) {
      const job = next++;
      const outcome = await runOne(jobs[job], job, options, ending.signal);
      if (outcome === undefined) continue;
      outcomes[job] = outcome as Outcome;
      options.onEnded(job);
    }
  };
  try {
    const servers = Array.from({ length: Math.min(options.threads, jobs.length) }, () =>
      serve().catch((error: unknown) => {
        end();
        throw error;
      }),
    );
    const ended = await Promise.allSettled(servers);
    for (const server of ended) if (server.status === 'rejected') throw server.reason;
    return outcomes;
  } finally {
    options.signal.removeEventListener('abort', end);
  }
}

/** @returns undefined when `signal` came before the outcome. */
async function runOne(data: unknown, job: number, options: PoolOptions, signal: AbortSignal): Promise<unknown> {
  const worker = new Worker(options.module, { workerData: data });
  const end = () => void worker.terminate();
  signal.addEventListener('abort', end);
  try {
    return await new Promise<unknown>((resolve, reject) => {
      worker.on('message', (message: WorkerMessage) => {
        if (message.kind === 'progress') options.onProgress(job, message.done);
        else if (message.kind === 'outcome') resolve(message.outcome);
        else reject(errorOf(message.error));
      });
      worker.on('error', (error: Error) => reject(error));
      worker.on('exit', (code) => {
        if (signal.aborted) resolve(undefined);
        else reject(new Error(`a worker thread ended with ${code} before its job was done`));
      });
    });
  } finally {
    signal.removeEventListener('abort', end);
    await worker.terminate();
  }
}
