/**
 * The threads of `pcache bench --jobs`: each drives a shard of one cache through the rounds, all at once, and then
 * the limit, all at once. A round is as long as the job that took longest.
 */
import { Worker } from 'node:worker_threads';
import { performance } from 'node:perf_hooks';
import { BackingFile, type SharedBacking } from '../engine/device/backing-file.js';
import type { BackingDevice } from '../engine/device/backing.js';
import type { MappedDevice, MappedPmem } from '../engine/device/mapped.js';
import { bestCrc32c } from '../engine/device/native.js';
import { assert, errorOf, type ErrorNote } from '../engine/errors.js';
import { ShardedCache, type ShardSeed } from '../engine/index.js';
import { layout } from '../layout/layout.js';
import type { Pattern } from './pattern.js';
import type { Round } from './rounds.js';

/** What a job is to do; the same for all but for its seed. */
export interface JobOptions {
  readonly pattern: Pattern;
  readonly blockBytes: number;
  readonly depth: number;
  readonly fuaEvery: number;
  /** Of all jobs: how many blocks, and what they are scattered over. */
  readonly blocks: number;
  readonly spanBytes: number;
  /** Of one job in the longest round. */
  readonly requestsMax: number;
}

/** `workerData` of a job. */
export interface JobData extends JobOptions {
  readonly seed: ShardSeed;
  readonly jobs: number;
  readonly device: MappedDevice;
  readonly backing: { readonly file: SharedBacking } | { readonly nullBytes: number };
  /** By which the jobs meet: who is there, and how often they have met. */
  readonly meeting: Int32Array;
}

export type ToJob =
  | { readonly kind: 'fill' }
  /** @property requests of one job */
  | { readonly kind: 'round'; readonly requests: number };
export type FromJob =
  | { readonly kind: 'filling'; readonly blocks: number }
  | { readonly kind: 'filled'; readonly blocks: number }
  | {
      readonly kind: 'measured';
      readonly round: Round;
      readonly cpuNs: number;
      readonly latenciesNs: readonly number[];
    }
  | { readonly kind: 'failed'; readonly error: ErrorNote };

export class Jobs {
  readonly cache: ShardedCache;
  readonly options: JobOptions;
  readonly rounds: Round[] = [];
  readonly latenciesNs: number[] = [];
  cpuNs = 0;

  private readonly workers: readonly Worker[];
  private readonly exits: readonly Promise<unknown>[];
  private waiting: { left: number; given: FromJob[]; resolve: (given: FromJob[]) => void } | undefined;
  private readonly broken: Promise<never>;
  private onFilling: (blocks: number) => void = () => {};

  /** @throws PcacheError what opening the cache throws */
  constructor(
    pmem: MappedPmem,
    backing: BackingDevice,
    jobs: number,
    makeOptions: (cache: ShardedCache) => JobOptions,
  ) {
    const clock = { nowMs: () => performance.now() };
    this.cache = new ShardedCache({ pmem, backing, clock, crc: bestCrc32c(), jobs });
    this.options = makeOptions(this.cache);
    const meeting = new Int32Array(new SharedArrayBuffer(8));
    this.workers = this.cache.seeds.map((seed) => {
      const workerData: JobData = {
        ...this.options,
        seed,
        jobs,
        device: pmem.device,
        backing: backing instanceof BackingFile ? { file: backing.shared } : { nullBytes: backing.sizeBytes },
        meeting,
      };
      return new Worker(layout.workerModule('bench'), { workerData, transferList: [seed.port] });
    });
    this.exits = this.workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
    this.broken = new Promise((_, reject) => {
      for (const worker of this.workers) {
        worker.once('error', reject);
        worker.on('message', (message: FromJob) => this.heard(message, reject));
      }
    });
    this.broken.catch(() => {}); // callers that wait for an answer get the error
  }

  private heard(message: FromJob, reject: (error: Error) => void): void {
    const { waiting } = this;
    if (message.kind === 'filling') {
      this.onFilling(message.blocks);
      return;
    }
    if (message.kind === 'failed') {
      reject(errorOf(message.error));
      return;
    }
    assert(waiting !== undefined, 'a job answers though nothing was asked');
    waiting.given.push(message);
    if (--waiting.left === 0) waiting.resolve(waiting.given);
  }

  private async ask<Kind extends FromJob['kind']>(
    question: ToJob,
    _kind: Kind,
  ): Promise<readonly Extract<FromJob, { kind: Kind }>[]> {
    const answers = new Promise<FromJob[]>((resolve) => {
      this.waiting = { left: this.workers.length, given: [], resolve };
    });
    for (const worker of this.workers) worker.postMessage(question);
    return (await Promise.race([answers, this.broken])) as Extract<FromJob, { kind: Kind }>[];
  }

  /** Writes all blocks once, and everything back. @returns how many there are */
  async fill(onProgress: (blocks: number) => void): Promise<number> {
    await Promise.race([this.cache.ready(), this.broken]);
    let filled = 0;
    this.onFilling = (blocks) => onProgress((filled += blocks));
    const answers = await this.ask({ kind: 'fill' }, 'filled');
    await this.drain();
    return answers.reduce((sum, { blocks }) => sum + blocks, 0);
  }

  /** Writes everything back, and frees what can be freed. */
  private async drain(): Promise<void> {
    await this.cache.drain();
    await this.cache.collectGarbage();
  }

  /** One round of each, of all jobs at once; `requests` of each job. */
  async run(requests: number): Promise<void> {
    await Promise.race([this.drain(), this.broken]);
    this.cache.hold = true;
    const answers = await this.ask({ kind: 'round', requests }, 'measured');
    this.cache.hold = false;
    const longest = (nsOf: (round: Round) => number) => Math.max(...answers.map(({ round }) => nsOf(round)));
    this.rounds.push({
      requests: answers.reduce((sum, { round }) => sum + round.requests, 0),
      engineNs: longest((round) => round.engineNs),
      limitNs: longest((round) => round.limitNs),
      groupedNs: longest((round) => round.groupedNs),
      plainLoopNs: longest((round) => round.plainLoopNs),
    });
    for (const { latenciesNs } of answers) this.latenciesNs.push(...latenciesNs);
    this.cpuNs += Math.max(...answers.map(({ cpuNs }) => cpuNs));
  }

  forget(): void {
    this.rounds.length = 0;
    this.latenciesNs.length = 0;
    this.cpuNs = 0;
  }

  async close(): Promise<void> {
    await Promise.race([this.cache.close(), this.broken]);
    await Promise.all(this.exits);
  }

  /** Ends the threads whatever they are doing. */
  async stop(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.terminate()));
  }
}
