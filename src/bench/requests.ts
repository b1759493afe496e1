/** `pcache bench`: requests of one pattern, measured against what memory itself allows. */
import type { Durability } from '../engine/device/pmem.js';
import type { Cache, ShardStatus } from '../engine/index.js';
import type { BenchDevices } from './bench-devices.js';
import { Blocks, PatternSource, type Pattern } from './pattern.js';
import { Jobs } from './jobs.js';
import { mappedOrThrow, Rig } from './rig.js';
import { Rounds, type Round } from './rounds.js';
import { medianOf, percentileOf, spreadOf, type Spread } from './spread.js';

/** Of the cache's data, what is filled before the rounds, and what one round may write. */
const FILL_SHARE = 0.5;
const ROUND_SHARE = 0.15;
/** Between the rounds it is collected down to this much, so that there is room for one. */
const GC_PERCENT = 60;
const REQUESTS_PER_ROUND_MAX = 32_768;
/** Two short ones, the second of which is timed, and one as long as those that are measured. */
const WARM_UP_ROUNDS = 3;
const LEAST_ROUNDS = 5;
/** A slow device gets shorter rounds, but none that a few odd requests decide. */
const REQUESTS_PER_ROUND_MIN = 1024;
/** How many of the rounds are called the quietest. */
const QUIET_SHARE = 0.2;

export interface RequestBenchOptions {
  readonly devices: Pick<BenchDevices, 'pmem' | 'backing' | 'cacheName'>;
  readonly pattern: Pattern;
  readonly blockBytes: number;
  readonly depth: number;
  readonly fuaEvery: number;
  /** Threads that each have a shard of the cache, at once; 1 for the engine in this one. */
  readonly jobs: number;
  /** How long the rounds take together, about. */
  readonly seconds: number;
  /** The range of the logical device that the blocks are scattered over, bytes. */
  readonly spanBytes: number;
  readonly cpuNs: () => number;
  readonly onFill: (blocks: number, of: number) => void;
  /** @param share how much of the measurement is done, 0 to 1; 0 when it begins */
  readonly onRound: (share: number) => void;
  readonly isStopped: () => boolean;
}

export interface RateResult {
  readonly requestsPerSecond: number;
  readonly bytesPerSecond: number;
  readonly nsPerRequest: number;
}

export interface RequestBenchResult {
  readonly pattern: Pattern;
  readonly blockBytes: number;
  readonly depth: number;
  readonly jobs: number;
  readonly dataCrc: boolean;
  readonly fuaEvery: number;
  readonly cache: string;
  readonly cacheBytes: number;
  readonly durability: Durability;
  readonly rounds: number;
  readonly requests: number;
  readonly engine: RateResult & {
    /** From submit to acknowledgement; a group of `depth` ends at once. */
    readonly latency: { readonly p50Ns: number; readonly p99Ns: number; readonly p999Ns: number };
    readonly cpuNsPerRequest: number;
  };
  /** The same copies in a native loop, one by one; writes with a fence each. */
  readonly limit: RateResult;
  /** The same in groups of `depth`. */
  readonly limitInGroups: RateResult;
  /** Engine's requests a second by the limit's, of rounds. */
  readonly ratio: Spread;
  /** The same of the quietest fifth of the rounds: those in which a plain loop beside the engine took the shortest. */
  readonly quietest: {
    readonly rounds: number;
    readonly ratio: Spread;
    /** What the loop took in these rounds, and in all, by the shortest that it ever took. */
    readonly slowdown: Spread;
    readonly slowdownOfAll: Spread;
  };
  readonly index: { readonly keys: number; readonly memoryBytes: number; readonly bytesPerKey: number };
}

/** What measures in rounds: one thread, or several. */
interface Measuring {
  readonly rounds: Round[];
  readonly latenciesNs: readonly number[];
  readonly cpuNs: number;
  /** @param requests of one job */
  run(requests: number): Promise<void>;
  /** Forgets what was measured so far: the machine has warmed up. */
  forget(): void;
}

/** How large things are made for a cache. */
interface Sizes {
  readonly blocks: number;
  /** Of one job in the longest round. */
  readonly requestsMax: number;
}

function sizesFor(cache: Pick<Cache, 'status' | 'segmentDataBytes'>, options: RequestBenchOptions): Sizes {
  const { blockBytes, depth, jobs } = options;
  const dataBytes = cache.status().cacheSegments * cache.segmentDataBytes;
  const room = Math.floor((dataBytes * ROUND_SHARE) / blockBytes / jobs);
  return {
    blocks: Math.floor(Math.min(dataBytes * FILL_SHARE, options.spanBytes) / blockBytes),
    requestsMax: Math.max(depth, Math.min(REQUESTS_PER_ROUND_MAX, room)),
  };
}

/** Runs the rounds. The devices stay open; what was on them is overwritten. */
export function benchRequests(options: RequestBenchOptions): Promise<RequestBenchResult> {
  return options.jobs === 1 ? benchOne(options) : benchJobs(options);
}

async function benchOne(options: RequestBenchOptions): Promise<RequestBenchResult> {
  const { devices, pattern, blockBytes, depth } = options;
  const rig = new Rig({ pmem: devices.pmem, backing: devices.backing, blockBytes, depth });
  const { blocks: count, requestsMax } = sizesFor(rig.cache, options);
  const blocks = new Blocks(blockBytes, count, options.spanBytes, pattern === 'read' || pattern === 'write');
  rig.cache.setGcPercent(GC_PERCENT);
  await rig.fill(blocks, (done) => options.onFill(done, blocks.count));
  const rounds = new Rounds({
    rig,
    source: new PatternSource(pattern, blocks, 1),
    blockBytes,
    depth,
    fuaEvery: options.fuaEvery,
    requestsMax,
    cpuNs: options.cpuNs,
  });
  await runFor(rounds, requestsMax, options);
  const { indexEntries, indexMemoryBytes, cacheFlags } = rig.cache.status();
  await rig.close();
  return describe(rounds, options, { keys: indexEntries, memoryBytes: indexMemoryBytes, cacheFlags });
}

async function benchJobs(options: RequestBenchOptions): Promise<RequestBenchResult> {
  const { devices, pattern, blockBytes, depth, fuaEvery, spanBytes } = options;
  const pmem = mappedOrThrow(devices.pmem);
  const jobs = new Jobs(pmem, devices.backing, options.jobs, (cache) => {
    cache.setGcPercent(GC_PERCENT);
    return { pattern, blockBytes, depth, fuaEvery, spanBytes, ...sizesFor(cache, options) };
  });
  try {
    await jobs.fill((done) => options.onFill(done, jobs.options.blocks));
    await runFor(jobs, jobs.options.requestsMax, options);
    const shards = await jobs.cache.shardStatus();
    const { cacheFlags } = jobs.cache.status();
    await jobs.close();
    const sum = (of: (shard: ShardStatus) => number) => shards.reduce((total, shard) => total + of(shard), 0);
    return describe(jobs, options, {
      keys: sum((shard) => shard.indexEntries),
      memoryBytes: sum((shard) => shard.indexMemoryBytes),
      cacheFlags,
    });
  } finally {
    await jobs.stop();
  }
}

async function runFor(rounds: Measuring, requestsMax: number, options: RequestBenchOptions): Promise<void> {
  const beganMs = performance.now();
  const secondsSinceBegin = () => (performance.now() - beganMs) / 1000;
  options.onRound(0);
  const requestsMin = Math.min(requestsMax, Math.max(options.depth, REQUESTS_PER_ROUND_MIN));
  await rounds.run(requestsMin);
  const firstSeconds = secondsSinceBegin();
  await rounds.run(requestsMin); // and what the first has left to write back
  const secondsEach = (secondsSinceBegin() - firstSeconds) / requestsMin;
  const requests = requestsFor({ secondsEach, seconds: options.seconds, requestsMin, requestsMax });
  await rounds.run(requests);
  rounds.forget();
  const warmUpSeconds = secondsSinceBegin();
  while (!options.isStopped()) {
    await rounds.run(requests);
    const seconds = secondsSinceBegin() - warmUpSeconds;
    options.onRound(measuredShare({ warmUpSeconds, seconds, rounds: rounds.rounds.length, wanted: options.seconds }));
    if (seconds >= options.seconds && rounds.rounds.length >= LEAST_ROUNDS) break;
  }
}

/** How many requests a round is to have, so that enough rounds fit in the wanted time. */
export function requestsFor(one: {
  /** Of a request, with its share of what is not measured: the limit, write-back and garbage collection. */
  readonly secondsEach: number;
  readonly seconds: number;
  readonly requestsMin: number;
  readonly requestsMax: number;
}): number {
  const fitting = Math.floor(one.seconds / LEAST_ROUNDS / one.secondsEach);
  return Math.max(one.requestsMin, Math.min(one.requestsMax, fitting));
}

/**
 * How much of a measurement is done, warm-up included, 0 to 1: it ends when it has taken the wanted time and enough
 * rounds. On a slow backing device the rounds take longer than the time that was asked for.
 */
export function measuredShare(done: {
  readonly warmUpSeconds: number;
  readonly seconds: number;
  readonly rounds: number;
  readonly wanted: number;
}): number {
  const byTime = (done.warmUpSeconds + done.seconds) / (done.warmUpSeconds + done.wanted);
  const byRounds = (WARM_UP_ROUNDS + done.rounds) / (WARM_UP_ROUNDS + LEAST_ROUNDS);
  return Math.min(byTime, byRounds, 1);
}

function describe(
  rounds: Measuring,
  options: RequestBenchOptions,
  { keys, memoryBytes, cacheFlags }: { keys: number; memoryBytes: number; cacheFlags: number },
): RequestBenchResult {
  const { pmem } = options.devices;
  const all = rounds.rounds;
  const requests = all.reduce((sum, round) => sum + round.requests, 0);
  const latencies = Float64Array.from(rounds.latenciesNs).sort();
  return {
    pattern: options.pattern,
    blockBytes: options.blockBytes,
    depth: options.depth,
    jobs: options.jobs,
    dataCrc: (cacheFlags & 1) !== 0,
    fuaEvery: options.fuaEvery,
    cache: options.devices.cacheName,
    cacheBytes: pmem.sizeBytes,
    durability: pmem.durability,
    rounds: all.length,
    requests,
    engine: {
      ...rate(all, (round) => round.engineNs, options.blockBytes),
      latency: {
        p50Ns: percentileOf(latencies, 0.5),
        p99Ns: percentileOf(latencies, 0.99),
        p999Ns: percentileOf(latencies, 0.999),
      },
      cpuNsPerRequest: rounds.cpuNs / requests,
    },
    limit: rate(all, (round) => round.limitNs, options.blockBytes),
    limitInGroups: rate(all, (round) => round.groupedNs, options.blockBytes),
    ratio: ratioOf(all),
    quietest: quietestOf(all),
    index: {
      keys,
      memoryBytes,
      bytesPerKey: keys === 0 ? 0 : memoryBytes / keys,
    },
  };
}

function ratioOf(rounds: readonly Round[]): Spread {
  return spreadOf(rounds.map((round) => round.limitNs / round.engineNs));
}

export function quietestOf(all: readonly Round[]): RequestBenchResult['quietest'] {
  const sorted = [...all].sort((a, b) => a.plainLoopNs - b.plainLoopNs);
  const some = sorted.slice(0, Math.ceil(sorted.length * QUIET_SHARE));
  const slowdown = (rounds: readonly Round[]) =>
    spreadOf(rounds.map((round) => round.plainLoopNs / sorted[0].plainLoopNs));
  return { rounds: some.length, ratio: ratioOf(some), slowdown: slowdown(some), slowdownOfAll: slowdown(all) };
}

function rate(rounds: readonly Round[], nsOf: (round: Round) => number, blockBytes: number): RateResult {
  const nsPerRequest = medianOf(rounds.map((round) => nsOf(round) / round.requests));
  const requestsPerSecond = 1e9 / nsPerRequest;
  return { requestsPerSecond, bytesPerSecond: requestsPerSecond * blockBytes, nsPerRequest };
}
