/**
 * `pcache bench jobs`: how the request path would scale on a machine with more processors than this one. The real shards
 * of one cache run one after another in this thread, each alone, and what they share is recorded; `jobs-model.ts` then
 * plays the recordings at once.
 */
import { performance } from 'node:perf_hooks';
import type { MappedPmem } from '../engine/device/mapped.js';
import { bestCrc32c } from '../engine/device/native.js';
import { PcacheError } from '../engine/errors.js';
import { Op, openShard, RequestFlag, RequestGroup, ShardedCache } from '../engine/index.js';
import { openBenchDevices, type BenchDevices } from './bench-devices.js';
import { JobTimes, modelJobs, type ModelledJobs } from './jobs-model.js';
import { Blocks, BlocksOfJob, PatternSource, Plan, type Pattern } from './pattern.js';
import { arenaBlocks, mappedOrThrow, sameBlocks, writeBlocks, type BlockList } from './rig.js';
import type { RoundsRig } from './rounds.js';
import { RecordedState, Recording } from './shared-touches.js';

/** Of the cache's data, what is filled before, and what the jobs write in one round. */
const FILL_SHARE = 0.25;
const ROUND_SHARE = 0.1;
/** Of all jobs in one round, and of each, at least. */
const REQUESTS_PER_ROUND = 65_536;
const GROUPS_OF_JOB_MIN = 8;
/** The code gets warm in the first ones. */
const WARM_UP_ROUNDS = 2;
const ROUNDS = 4;
/** Groups that a job makes at a stretch, so that what it needs is in the caches as if it were alone. */
const STRETCH_GROUPS = 64;
/** A step from one number of jobs to the next is worth it when it gives this share of what the processors could. */
const WORTH_SHARE = 0.5;

export interface JobsBenchOptions {
  readonly pattern: Pattern;
  readonly blockBytes: number;
  readonly depth: number;
  /** Every so many writes one is FUA; 0 for none. */
  readonly fuaEvery: number;
  readonly dataCrc: boolean;
  readonly cacheBytes: number;
  readonly spanBytes: number;
  readonly jobs: readonly number[];
  readonly transferNs: number;
  /** @param steps how many numbers of jobs are done */
  readonly onStep: (steps: number) => void;
  readonly isStopped: () => boolean;
}

export interface JobsBenchResult {
  readonly pattern: Pattern;
  readonly blockBytes: number;
  readonly depth: number;
  readonly fuaEvery: number;
  readonly dataCrc: boolean;
  readonly transferNs: number;
  readonly steps: readonly (ModelledJobs & {
    /** Throughput by that of one job. */
    readonly times: number;
  })[];
  /** The last number of jobs that was worth its processors: more of them give less than half of what they could. */
  readonly scalesTo: number;
  /** Requests a second at which the lock of the last step would always be held; null when it was not taken. */
  readonly lockCeiling: number | null;
}

/** @throws PcacheError USAGE and TOO_SMALL when the jobs have no room, and what opening a cache throws */
export async function benchJobsModel(options: JobsBenchOptions): Promise<JobsBenchResult> {
  const recorded: Recording[][] = [];
  const devices = openBenchDevices({ ...options, cachePath: undefined, backingPath: undefined, force: false });
  try {
    for (const jobs of options.jobs) {
      recorded.push(await recordJobs(jobs, devices, options));
      options.onStep(recorded.length);
      if (options.isStopped()) break;
    }
  } finally {
    devices.close();
  }
  const times = new JobTimes(recorded.flat());
  const steps = recorded.map((recordings) => modelJobs(recordings, times, options));
  const { pattern, blockBytes, depth, fuaEvery, dataCrc, transferNs } = options;
  const alone = modelJobs(recorded[0].slice(0, 1), times, options).requestsPerSecond;
  const { lockHeldNsPerRequest } = steps.at(-1)!;
  return {
    ...{ pattern, blockBytes, depth, fuaEvery, dataCrc, transferNs },
    steps: steps.map((step) => ({ ...step, times: step.requestsPerSecond / alone })),
    scalesTo: lastWorthwhile(steps, alone),
    lockCeiling: lockHeldNsPerRequest > 0 ? 1e9 / lockHeldNsPerRequest : null,
  };
}

/** @param alone requests a second of one job */
export function lastWorthwhile(
  steps: readonly Pick<ModelledJobs, 'jobs' | 'requestsPerSecond'>[],
  alone: number,
): number {
  for (let n = 1; n < steps.length; n++) {
    const gained = steps[n].requestsPerSecond - steps[n - 1].requestsPerSecond;
    if (gained < WORTH_SHARE * alone * (steps[n].jobs - steps[n - 1].jobs)) return steps[n - 1].jobs;
  }
  return steps.at(-1)!.jobs;
}

/** Runs the jobs on a cache of their own. */
async function recordJobs(jobs: number, devices: BenchDevices, options: JobsBenchOptions): Promise<Recording[]> {
  const pmem = mappedOrThrow(devices.pmem);
  const clock = { nowMs: () => performance.now() };
  const cache = new ShardedCache({ pmem, backing: devices.backing, clock, crc: bestCrc32c(), jobs });
  const sizes = sizesFor(jobs, cache, options, devices.spanBytes);
  const opened = cache.seeds.map((seed) => {
    const recording = new Recording();
    const makeState = (memory: typeof seed.memory) => new RecordedState(memory, recording);
    return { ...openShard({ seed, pmem, backing: devices.backing, clock, crc: bestCrc32c(), makeState }), recording };
  });
  await cache.ready();
  const made = opened.map(
    ({ driver, recording }, job) => new Job(pmem, driver, recording, sizes.blocksOf(job), options),
  );
  for (const job of made) await job.fill();
  for (let round = 0; round < WARM_UP_ROUNDS + ROUNDS; round++) {
    await cache.drain();
    await cache.collectGarbage();
    for (const job of made) job.plan(sizes.groupsOfJob);
    cache.hold = true;
    for (let from = 0; from < sizes.groupsOfJob; from += STRETCH_GROUPS) {
      const to = Math.min(from + STRETCH_GROUPS, sizes.groupsOfJob);
      for (const job of made) job.run(from, to, round >= WARM_UP_ROUNDS);
    }
    cache.hold = false;
  }
  await cache.close();
  for (const job of made) job.close();
  return made.map(({ recording }) => recording);
}

interface Sizes {
  readonly groupsOfJob: number;
  blocksOf(job: number): BlockList;
}

function sizesFor(jobs: number, cache: ShardedCache, options: JobsBenchOptions, spanBytes: number): Sizes {
  const { blockBytes, depth, pattern } = options;
  const dataBytes = cache.status().cacheSegments * cache.segmentDataBytes;
  // Beside the segments of the data heads, which each job has one of.
  const roomBytes = dataBytes - jobs * cache.segmentDataBytes;
  const requests = Math.min(REQUESTS_PER_ROUND, Math.floor((roomBytes * ROUND_SHARE) / blockBytes));
  const groupsOfJob = Math.floor(requests / depth / jobs);
  if (groupsOfJob < GROUPS_OF_JOB_MIN) {
    throw new PcacheError('TOO_SMALL', `${jobs} jobs: the cache is too small for them; use a larger --cache-size`);
  }
  const count = Math.floor(Math.min(roomBytes * FILL_SHARE, spanBytes) / blockBytes);
  const blocks = new Blocks(blockBytes, count, spanBytes, pattern === 'read' || pattern === 'write');
  return {
    groupsOfJob,
    blocksOf: (job) => {
      const own = new BlocksOfJob(blocks, job, jobs);
      if (own.count > 0) return own;
      throw new PcacheError('USAGE', `${jobs} jobs: --span is too small for them; use a larger one or fewer jobs`);
    },
  };
}

/** One job: the requests of a shard. */
class Job {
  private readonly rig: RoundsRig;
  private readonly source: PatternSource;
  private planned: Plan | undefined;
  private writes = 0;

  constructor(
    pmem: MappedPmem,
    driver: ReturnType<typeof openShard>['driver'],
    readonly recording: Recording,
    private readonly blocks: BlockList,
    private readonly options: JobsBenchOptions,
  ) {
    const arena = pmem.registerArena(sameBlocks(arenaBlocks(options.depth), options.blockBytes));
    const group = new RequestGroup(arenaBlocks(options.depth), arena);
    this.rig = { pmem, cache: driver.cache, driver, arena, group };
    this.source = new PatternSource(options.pattern, blocks, 1);
  }

  fill(): Promise<void> {
    return writeBlocks(this.rig, this.blocks, () => {});
  }

  plan(groups: number): void {
    const requests = groups * this.options.depth;
    this.planned ??= new Plan(requests);
    this.source.fill(this.planned, requests, (offset) => this.rig.cache.locate(offset) >= 0);
  }

  /** Makes groups `from` to `to` of the plan. */
  run(from: number, to: number, isRecorded: boolean): void {
    const { depth, blockBytes } = this.options;
    const { cache, group, pmem } = this.rig;
    const { isRead, offsetBytes } = this.planned!;
    for (let n = from; n < to; n++) {
      group.clear();
      for (let k = 0; k < depth; k++) {
        const i = n * depth + k;
        if (isRead[i] !== 0) group.add(Op.read, offsetBytes[i], blockBytes, k * blockBytes);
        else group.add(Op.write, offsetBytes[i], blockBytes, k * blockBytes, this.flagsOfNext());
      }
      this.recording.isOn = isRecorded;
      const began = performance.now();
      const pending = cache.submit(group);
      const groupNs = (performance.now() - began) * 1e6;
      this.recording.isOn = false;
      if (isRecorded) this.recording.groupEnded(groupNs);
      if (group.errors[0]) throw group.errors[0];
      if (pending === 0) continue;
      throw new PcacheError('TOO_SMALL', `${pmem.path}: too small for one round; use a larger --cache-size`);
    }
  }

  private flagsOfNext(): number {
    const { fuaEvery } = this.options;
    return fuaEvery > 0 && ++this.writes % fuaEvery === 0 ? RequestFlag.fua : 0;
  }

  close(): void {
    this.rig.pmem.unregisterArena(this.rig.arena);
  }
}
