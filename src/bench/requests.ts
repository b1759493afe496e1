/** `pcache bench`: requests of one pattern, measured against what memory itself allows. */
import type { Durability } from '../engine/device/pmem.js';
import type { BenchDevices } from './devices.js';
import { Blocks, PatternSource, type Pattern } from './pattern.js';
import { Rig } from './rig.js';
import { Rounds, type Round } from './rounds.js';
import { medianOf, percentileOf, spreadOf, type Spread } from './spread.js';

/** Of the cache's data, what is filled before the rounds, and what one round may write. */
const FILL_SHARE = 0.5;
const ROUND_SHARE = 0.15;
/** Between the rounds it is collected down to this much, so that there is room for one. */
const GC_PERCENT = 60;
const REQUESTS_PER_ROUND_MAX = 32_768;
const WARM_UP_ROUNDS = 2;
const LEAST_ROUNDS = 5;

export interface RequestBenchOptions {
  readonly devices: Pick<BenchDevices, 'pmem' | 'backing' | 'cacheName'>;
  readonly pattern: Pattern;
  readonly blockBytes: number;
  readonly depth: number;
  readonly fuaEvery: number;
  /** How long the rounds take together, about. */
  readonly seconds: number;
  /** The range of the logical device that the blocks are scattered over, bytes. */
  readonly spanBytes: number;
  readonly cpuNs: () => number;
  readonly onFill: (blocks: number, of: number) => void;
  readonly onRound: (seconds: number) => void;
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
  readonly dataCrc: boolean;
  readonly fuaEvery: number;
  readonly cache: string;
  readonly cacheBytes: number;
  readonly durability: Durability;
  readonly rounds: number;
  readonly requests: number;
  readonly engine: RateResult & {
    /** From submit to acknowledgement; a group of `depth` ends at once. */
    readonly latencyNs: { readonly p50: number; readonly p99: number; readonly p999: number };
    readonly cpuNsPerRequest: number;
  };
  /** The same copies in a native loop, one by one; writes with a fence each. */
  readonly limit: RateResult;
  /** The same in groups of `depth`. */
  readonly limitInGroups: RateResult;
  /** Engine's requests a second by the limit's, of rounds. */
  readonly ratio: Spread;
  readonly index: { readonly keys: number; readonly memoryBytes: number; readonly bytesPerKey: number };
}

/** Runs the rounds. The devices stay open; what was on them is overwritten. */
export async function benchRequests(options: RequestBenchOptions): Promise<RequestBenchResult> {
  const { devices, pattern, blockBytes, depth } = options;
  const rig = new Rig({ pmem: devices.pmem, backing: devices.backing, blockBytes, depth });
  const { cacheSegments, cacheFlags } = rig.cache.status();
  const dataBytes = cacheSegments * rig.cache.segmentDataBytes;
  const count = Math.floor(Math.min(dataBytes * FILL_SHARE, options.spanBytes) / blockBytes);
  const blocks = new Blocks(blockBytes, count, options.spanBytes, pattern === 'read' || pattern === 'write');
  rig.cache.setGcPercent(GC_PERCENT);
  await rig.fill(blocks, (done) => options.onFill(done, blocks.count));
  const rounds = new Rounds({
    rig,
    source: new PatternSource(pattern, blocks, 1),
    blockBytes,
    depth,
    fuaEvery: options.fuaEvery,
    requestsPerRound: Math.max(
      depth,
      Math.min(REQUESTS_PER_ROUND_MAX, Math.floor((dataBytes * ROUND_SHARE) / blockBytes)),
    ),
    cpuNs: options.cpuNs,
  });
  await runFor(rounds, options);
  const result = describe(rounds, rig, options, (cacheFlags & 1) !== 0);
  await rig.close();
  return result;
}

async function runFor(rounds: Rounds, options: RequestBenchOptions): Promise<void> {
  for (let n = 0; n < WARM_UP_ROUNDS; n++) await rounds.run();
  rounds.forget();
  const started = performance.now();
  for (let seconds = 0; !options.isStopped();) {
    await rounds.run();
    seconds = (performance.now() - started) / 1000;
    options.onRound(seconds);
    if (seconds >= options.seconds && rounds.rounds.length >= LEAST_ROUNDS) break;
  }
}

function describe(rounds: Rounds, rig: Rig, options: RequestBenchOptions, dataCrc: boolean): RequestBenchResult {
  const all = rounds.rounds;
  const requests = all.reduce((sum, round) => sum + round.requests, 0);
  const { indexEntries, indexMemoryBytes } = rig.cache.status();
  const latencies = Float64Array.from(rounds.latenciesNs).sort();
  return {
    pattern: options.pattern,
    blockBytes: options.blockBytes,
    depth: options.depth,
    dataCrc,
    fuaEvery: options.fuaEvery,
    cache: options.devices.cacheName,
    cacheBytes: rig.pmem.sizeBytes,
    durability: rig.pmem.durability,
    rounds: all.length,
    requests,
    engine: {
      ...rate(all, (round) => round.engineNs, options.blockBytes),
      latencyNs: {
        p50: percentileOf(latencies, 0.5),
        p99: percentileOf(latencies, 0.99),
        p999: percentileOf(latencies, 0.999),
      },
      cpuNsPerRequest: rounds.cpuNs / requests,
    },
    limit: rate(all, (round) => round.limitNs, options.blockBytes),
    limitInGroups: rate(all, (round) => round.groupedNs, options.blockBytes),
    ratio: spreadOf(all.map((round) => round.limitNs / round.engineNs)),
    index: {
      keys: indexEntries,
      memoryBytes: indexMemoryBytes,
      bytesPerKey: indexEntries === 0 ? 0 : indexMemoryBytes / indexEntries,
    },
  };
}

function rate(rounds: readonly Round[], nsOf: (round: Round) => number, blockBytes: number): RateResult {
  const nsPerRequest = medianOf(rounds.map((round) => nsOf(round) / round.requests));
  const requestsPerSecond = 1e9 / nsPerRequest;
  return { requestsPerSecond, bytesPerSecond: requestsPerSecond * blockBytes, nsPerRequest };
}
