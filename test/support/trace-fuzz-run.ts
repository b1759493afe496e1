/**
 * Reads damaged traces FROM..TO of a seed and holds every outcome against what must be true of it: for the test, and for
 * `npm run fuzz:traces`, which runs the same in plain Node.
 */
import { isDeepStrictEqual } from 'node:util';
import { Random } from '../../src/engine/sim/random.js';
import { makeModel, simulate } from '../../src/simulate/index.js';
import { complaint, makeInput, makeSamples, read, type Input, type Outcome } from './trace-fuzz.js';
import { simulatedTrace } from './trace-fuzz-simulate.js';

/** One input in so many is read a second time, in small pieces. */
const AGAIN_EVERY = 8;
/** Milliseconds that an input of a few kilobytes may take on a busy machine. */
const HANG_MS = 60_000;
const RSS_BYTES_MAX = 2 ** 31;
const RSS_LOOKED_AT_EVERY = 1024;
const CACHE_BYTES = 512 * 2 ** 20;
const MODEL = makeModel('hdd', {}, {});
/** Longer inputs are not printed. */
const SHOWN_BYTES_MAX = 600;

export interface FuzzRange {
  readonly seed: number;
  /** Numbers of the first input, and of the one behind the last. */
  readonly from: number;
  readonly to: number;
  /** One input in so many is simulated as well, if requests can be read from it; every other one with a model. */
  readonly simulatedEvery: number;
  /** Receives what is wrong with an input, with the input itself. */
  readonly onFailure: (message: string) => void;
  /** Called before each input. */
  readonly onInput?: (n: number) => void;
  /** Called after each input; true ends the run. */
  readonly isOver?: (done: number) => boolean;
}

/** Numbers of inputs. */
export interface FuzzTally {
  done: number;
  read: number;
  refused: number;
  malformed: number;
  truncated: number;
  readTwice: number;
  simulated: number;
  failed: number;
  slowestMs: number;
  /** Formats that were read, packing included. */
  readonly formats: Set<string>;
}

export async function fuzzTraces(range: FuzzRange): Promise<FuzzTally> {
  const { seed, from, to, onFailure, onInput, isOver } = range;
  const samples = makeSamples();
  const whole = new Map<string, Outcome>();
  for (const sample of samples) {
    whole.set(sample.name, await read(sample.bytes, { allDevices: true, ...sample.options }, 65_536));
  }
  const counts = { done: 0, read: 0, refused: 0, malformed: 0, truncated: 0, readTwice: 0, simulated: 0, failed: 0 };
  const tally: FuzzTally = { ...counts, slowestMs: 0, formats: new Set() };
  for (let n = from; n < to; n++) {
    onInput?.(n);
    const random = new Random(seed * 1_000_003 + n);
    const input = makeInput(random, samples);
    const startedMs = performance.now();
    let wrong: string | undefined;
    try {
      wrong = await tryInput(range, n, random, input, whole.get(input.sample.name)!, tally);
    } catch (error) {
      wrong = (error as Error).stack ?? String(error);
    }
    const tookMs = performance.now() - startedMs;
    tally.slowestMs = Math.max(tally.slowestMs, tookMs);
    if (tookMs > HANG_MS) wrong ??= `it took ${tookMs} ms`;
    if (n % RSS_LOOKED_AT_EVERY === 0 && process.memoryUsage.rss() > RSS_BYTES_MAX) wrong ??= 'memory grows';
    if (wrong !== undefined) {
      tally.failed++;
      onFailure(told(input, n, seed, wrong));
    }
    tally.done++;
    if (isOver?.(tally.done) === true) break;
  }
  return tally;
}

/** @returns what is wrong, or undefined */
async function tryInput(
  { simulatedEvery }: FuzzRange,
  n: number,
  random: Random,
  input: Input,
  whole: Outcome,
  tally: FuzzTally,
): Promise<string | undefined> {
  const outcome = await read(input.bytes, input.options, random.chance(0.5) ? 65_536 : random.between(1, 300));
  const wrong = complaint(input, outcome, whole);
  if (wrong !== undefined) return wrong;
  if (n % AGAIN_EVERY === 0) {
    tally.readTwice++;
    const again = await read(input.bytes, input.options, random.between(1, 40));
    if (!isDeepStrictEqual(again, outcome) && !(input.sample.isCostly && isDamaged(again) && isDamaged(outcome))) {
      return `in pieces it is read otherwise: ${JSON.stringify(again)} and not ${JSON.stringify(outcome)}`;
    }
  }
  if (outcome.error !== undefined || outcome.lines.length === 0) {
    tally.refused++;
    return undefined;
  }
  tally.read++;
  tally.formats.add(outcome.format);
  tally.malformed += outcome.counts['malformed'] > 0 ? 1 : 0;
  tally.truncated += outcome.counts['truncated'] > 0 ? 1 : 0;
  if (n % simulatedEvery !== 0) return undefined;
  tally.simulated++;
  const trace = simulatedTrace(outcome.lines);
  const model = n % (2 * simulatedEvery) === 0 ? MODEL : undefined;
  const result = await simulate({ trace, cacheBytes: CACHE_BYTES, model });
  return result.requests.total === trace.requests
    ? undefined
    : `${result.requests.total} of ${trace.requests} are simulated`;
}

/** Where packings lie one in the other, it depends on the pieces which of them is seen to be damaged first. */
function isDamaged({ error }: Outcome): boolean {
  return error?.startsWith('BAD_TRACE ') === true && error.includes(' damaged ');
}

function told({ sample, how, bytes }: Input, n: number, seed: number, what: string): string {
  const shown = bytes.length <= SHOWN_BYTES_MAX ? JSON.stringify(bytes.toString('latin1')) : `${bytes.length} bytes`;
  return `input ${n} of seed ${seed} (${sample.name}: ${how}): ${what}\n${shown}`;
}
