/**
 * Ours → kernel → ours and kernel → ours → kernel, with known content, wrapped logs, and each side killed at
 * random moments. `PCACHE_KERNEL_SEEDS` says how many seeds (2 if not set), or which: `5-5` is seed 5 alone.
 */
import { afterEach, expect, it } from 'vitest';
import { describeWithKernel, KERNEL_TEST_TIMEOUT_MS } from '../support/kernel.js';
import { Chain, chainSectors } from './chain.js';
import { Images } from './host.js';

const DEFAULT_SEEDS = 2;
/** Of all sides together, at least; each side has 3000 or more of which a fifth at least is done. */
const LEAST_REQUESTS = 2000;

function seeds(): number[] {
  const text = process.env['PCACHE_KERNEL_SEEDS'] ?? String(DEFAULT_SEEDS);
  const [, low, high] = /^(?:(\d+)-)?(\d+)$/.exec(text) ?? [];
  if (high === undefined)
    throw new Error(`PCACHE_KERNEL_SEEDS is "${text}"; give a number of seeds, or a range such as 5-8`);
  const first = Number(low ?? 1);
  return Array.from({ length: Math.max(0, Number(high) - first + 1) }, (_, n) => first + n);
}

/** The kernel works any of them as writeback. With writearound the log would not be filled. */
const MODES = ['writeback', 'writethrough', 'writeonly'] as const;

let images: Images | undefined;
afterEach(() => images?.remove());

describeWithKernel('round trips between our engine and the kernel', (kernel) => {
  it.each(seeds())(
    'keep every acknowledged write and change no other byte (seed %i)',
    { timeout: 2 * KERNEL_TEST_TIMEOUT_MS },
    async (seed) => {
      images = new Images(chainSectors(seed));
      const first = seed % 2 === 1 ? 'ours' : 'kernel';
      const dataCrc = Math.floor(seed / 2) % 2 === 0;
      const fills = (seed + Math.floor(seed / 4)) % 4 < 2 ? 'before ours' : 'before the kernel';
      const mode = first === 'ours' ? MODES[Math.floor((seed - 1) / 2 + seed / 8) % MODES.length] : 'writeback';
      console.log(`seed ${seed}: ${first} first, data_crc ${dataCrc}, mode ${mode}, log filled ${fills}`);
      const chain = new Chain({
        kernel,
        seed,
        images,
        dataCrc,
        mode,
        first,
        fills,
        report: (line) => console.log(line),
      });
      await chain.run();
      expect(chain.requests).toBeGreaterThan(LEAST_REQUESTS);
    },
  );
});
