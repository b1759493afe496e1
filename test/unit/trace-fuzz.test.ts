/**
 * All trace readers over damaged inputs: none may crash, hang, lose a record without counting it, or say anything but one
 * clean line. What is read must not depend on how the bytes come in.
 *
 * PCACHE_TRACE_FUZZ=N reads N inputs, PCACHE_TRACE_FUZZ_SEED=N others.
 */
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/engine/sim/random.js';
import { simulate } from '../../src/simulate/index.js';
import { countOf } from '../support/long.js';
import { complaint, makeInput, makeSamples, read, type Input, type Outcome } from '../support/trace-fuzz.js';
import { simulatedTrace } from '../support/trace-fuzz-simulate.js';

const INPUTS = Number(process.env['PCACHE_TRACE_FUZZ'] ?? countOf({ share: 500, all: 3000 }));
const SEED = Number(process.env['PCACHE_TRACE_FUZZ_SEED'] ?? 1);
/** Inputs that are read a second time, in small pieces, and that are simulated. */
const AGAIN_EVERY = 8;
const SIMULATED_EVERY = 64;
/** Milliseconds that an input of a few kilobytes may take on a busy machine. */
const HANG_MS = 60_000;
const CACHE_BYTES = 512 * 2 ** 20;

describe(`${INPUTS} damaged traces of seed ${SEED}`, () => {
  it('are read, or refused in one line, with everything counted', { timeout: 900_000 }, async () => {
    const samples = makeSamples();
    const whole = new Map<string, Outcome>();
    for (const sample of samples) {
      whole.set(sample.name, await read(sample.bytes, { allDevices: true, ...sample.options }, 65_536));
    }
    const seen = { read: 0, refused: 0, malformed: 0, truncated: 0, simulated: 0 };
    const formats = new Set<string>();
    for (let n = 0; n < INPUTS; n++) {
      const random = new Random(SEED * 1_000_003 + n);
      const input = makeInput(random, samples);
      const startedMs = performance.now();
      const outcome = await readOrTell(input, n, random.chance(0.5) ? 65_536 : random.between(1, 300));
      const wrong = complaint(input, outcome, whole.get(input.sample.name)!);
      if (wrong !== undefined) throw new Error(told(input, n, wrong));
      if (n % AGAIN_EVERY === 0) {
        const again = await readOrTell(input, n, random.between(1, 40));
        expect(again, told(input, n, 'in pieces it is read otherwise')).toEqual(outcome);
      }
      if (outcome.error === undefined && outcome.lines.length > 0) {
        seen.read++;
        formats.add(outcome.format);
        seen.malformed += outcome.counts['malformed'] > 0 ? 1 : 0;
        seen.truncated += outcome.counts['truncated'] > 0 ? 1 : 0;
        if (n % SIMULATED_EVERY === 0) {
          const trace = simulatedTrace(outcome.lines);
          const result = await simulate({ trace, cacheBytes: CACHE_BYTES });
          expect(result.requests.total, told(input, n, 'not all is simulated')).toBe(trace.requests);
          seen.simulated++;
        }
      } else seen.refused++;
      const tookMs = performance.now() - startedMs;
      expect(tookMs, told(input, n, `it took ${tookMs} ms`)).toBeLessThan(HANG_MS);
    }
    console.log(`${INPUTS} inputs of seed ${SEED}: ${JSON.stringify(seen)}, ${formats.size} kinds read`);
    expect(seen.read).toBeGreaterThan(INPUTS / 5);
    expect(seen.refused).toBeGreaterThan(INPUTS / 20);
    expect(process.memoryUsage().rss).toBeLessThan(2 ** 31);
  });
});

function told({ sample, how, bytes }: Input, n: number, what: string): string {
  const shown = bytes.length <= 600 ? JSON.stringify(bytes.toString('latin1')) : `${bytes.length} bytes`;
  return `input ${n} of seed ${SEED} (${sample.name}: ${how}): ${what}\n${shown}`;
}

async function readOrTell(input: Input, n: number, pieceBytes: number): Promise<Outcome> {
  try {
    return await read(input.bytes, input.options, pieceBytes);
  } catch (error) {
    throw new Error(told(input, n, `${(error as Error).stack ?? String(error)}`), { cause: error });
  }
}
