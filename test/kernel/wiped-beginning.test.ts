/**
 * Caches whose beginning was wiped, repaired, and attached in the real kernel: each attaches with the status that
 * `pcache info` predicts and reads what was there before the accident, but for what the repair listed as lost. All
 * share one machine.
 */
import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { liveEntries } from '../../src/engine/inspect/keys.js';
import { LogicalReader } from '../../src/engine/inspect/logical-reader.js';
import { summarise } from '../../src/engine/inspect/summary.js';
import { loadCacheOrThrow } from '../../src/engine/log/recovery.js';
import { Random } from '../../src/engine/sim/random.js';
import { lostRanges, summarizeLosses } from '../../src/fsck/repair/losses.js';
import { mergeRanges, subtractRanges, totalBytes, type ByteRange } from '../../src/fsck/repair/ranges.js';
import { loadBases, shapeOf, type Base } from '../support/damage/bases.js';
import type { BaseName } from '../support/damage/damagers.js';
import { repairOverlay, UndoInMemory } from '../support/damage/oracle.js';
import type { Overlay } from '../support/damage/overlay.js';
import { describeWithKernel, KERNEL_TEST_TIMEOUT_MS } from '../support/kernel.js';
import { attachMany, type Attachable } from './attach-many.js';
import { expectStatus } from './status.js';

const KIB = 1024;
/** Everything before the log, which begins with the data area of the first segment. */
const BEFORE_LOG_BYTES = 32 * KIB;
/** Ranges that are read of a cache, and bytes of each: what is read goes to the other machine slowly. */
const SAMPLES = 24;
const SAMPLE_BYTES = 32 * KIB;

/** How much of the beginning is gone, and whether zeroes or noise lie there. Those of gc-wrap come last: see `wipe`. */
const ACCIDENTS: readonly (readonly [base: BaseName, lengthBytes: number, isNoise: boolean])[] = [
  ['dirty-crc', 8 * KIB, false],
  ['dirty-crc', 20 * KIB, true],
  ['dirty-crc', BEFORE_LOG_BYTES, false],
  ['dirty-crc', 64 * KIB, false],
  ['dirty-crc', 1024 * KIB, true],
  ['hopping', BEFORE_LOG_BYTES, true],
  ['hopping', 36 * KIB, false],
  ['hopping', 1024 * KIB, false],
  ['gc-wrap', BEFORE_LOG_BYTES, false],
  ['gc-wrap', 1024 * KIB, true],
];

interface Case extends Attachable {
  readonly title: string;
  readonly status: string;
  readonly sha256: string | undefined;
}

function readerOf(image: Overlay, { backing }: Base, name: BaseName): LogicalReader {
  const shape = shapeOf(name);
  return new LogicalReader(image, loadCacheOrThrow(image, { ...shape, checkPayload: false }), {
    path: 'backing',
    sizeBytes: shape.backingBytes,
    readSync: (...args) => backing.read(...args),
  });
}

function sha256Of(reader: LogicalReader, ranges: readonly ByteRange[]): string {
  const hash = createHash('sha256');
  for (const { offsetBytes, lengthBytes } of ranges) {
    const bytes = new Uint8Array(lengthBytes);
    reader.read(offsetBytes, bytes, 0, lengthBytes);
    hash.update(bytes);
  }
  return hash.digest('hex');
}

/** Ranges that a cache holds; of gc-wrap, which the kernel begins to collect at once, too. */
function heldRanges(image: Overlay, name: BaseName): ByteRange[] {
  const cache = loadCacheOrThrow(image, { ...shapeOf(name), checkPayload: false });
  return mergeRanges([...liveEntries(cache)].map(({ offsetBytes, lengthBytes }) => ({ offsetBytes, lengthBytes })));
}

function sampleOf(ranges: readonly ByteRange[]): ByteRange[] {
  const step = Math.ceil(ranges.length / SAMPLES);
  return ranges
    .filter((_, n) => n % step === 0)
    .map(({ offsetBytes, lengthBytes }) => ({ offsetBytes, lengthBytes: Math.min(lengthBytes, SAMPLE_BYTES) }));
}

/**
 * Wipes the beginning and repairs. Only what the repaired cache holds is read, so that the kernel writes no payload
 * into the image that the cases share; of gc-wrap it does, having freed segments, and that case is the last to be read.
 */
async function wipe(base: Base, n: number): Promise<Case> {
  const [name, lengthBytes, isNoise] = ACCIDENTS[n];
  const title = `${lengthBytes / KIB} KiB of ${name}, ${isNoise ? 'noise' : 'zeroes'}`;
  const image = base.device.clone();
  const random = new Random(n);
  image.write(
    0,
    isNoise ? Uint8Array.from({ length: lengthBytes }, () => random.below(256)) : new Uint8Array(lengthBytes),
  );
  const shape = shapeOf(name);
  const policy = { acceptLoss: true, dropCorrupt: true, dataCrc: name !== 'gc-wrap' };
  const { made, declined, after } = await repairOverlay(image, shape, new UndoInMemory(), policy);
  expect([after.clean, declined.map(({ id }) => id)], title).toEqual([true, []]);
  const losses = summarizeLosses(made, []);
  const ranges = sampleOf(subtractRanges(heldRanges(image, name), lostRanges(losses)));
  // Before the log, nothing is lost that the keys do not give back.
  if (lengthBytes <= BEFORE_LOG_BYTES) expect(totalBytes(ranges), title).toBeGreaterThan(0);
  else expect(losses.complete, title).toBe(false);
  return {
    base: name,
    title,
    image,
    backingBytes: shape.backingBytes,
    ranges,
    status: summarise({ pmem: image, backing: undefined, close: () => undefined }).status!,
    sha256: ranges.length > 0 ? sha256Of(readerOf(base.device, base, name), ranges) : undefined,
  };
}

describeWithKernel('ten caches whose beginning was wiped and repaired', (kernel) => {
  it('attach, and read as before but for what was listed as lost', { timeout: KERNEL_TEST_TIMEOUT_MS }, async () => {
    const bases = await loadBases();
    const cases: Case[] = [];
    for (let n = 0; n < ACCIDENTS.length; n++) cases.push(await wipe(bases.get(ACCIDENTS[n][0])!, n));
    const { attached, output } = await attachMany(kernel, bases, cases);
    const wrong = cases.flatMap(({ title, status, sha256 }, n) => {
      const seen = attached[n];
      if (seen.status === undefined) return [`${title}: refused: ${seen.said ?? ''}`];
      if (seen.sha256 !== sha256) return [`${title}: reads otherwise`];
      try {
        expectStatus(seen.status, status, false);
        return [];
      } catch {
        return [`${title}: status ${seen.status}, predicted ${status}`];
      }
    });
    expect(wrong, output).toEqual([]);
  });
});
