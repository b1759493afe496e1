/**
 * What a check predicts of each kernel, held against that kernel: an image for every finding is attached in it, as its
 * damager makes it. A kernel must refuse what is to be refused; what it is to attach must attach, give the status that
 * `pcache info` predicts and read as `pcache cat` does; what it is to empty must come out empty. An image that is to be
 * cut or misread must attach. Images on which a kernel crashes are not attached here.
 * All share one machine. `PCACHE_KERNEL_TABLE` names a file to which what was predicted and what was seen is appended.
 */
import { createHash } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { liveEntries } from '../../src/engine/inspect/keys.js';
import { LogicalReader } from '../../src/engine/inspect/logical-reader.js';
import { summarise } from '../../src/engine/inspect/summary.js';
import { loadCache, loadCacheOrThrow, type LoadedCache } from '../../src/engine/log/recovery.js';
import { kernelEffect, KERNELS, type KernelEffect, type KernelVersion } from '../../src/fsck/consequences.js';
import { judgeCache } from '../../src/fsck/gate.js';
import { mergeRanges, type ByteRange } from '../../src/fsck/repair/ranges.js';
import { kernelOf } from '../../src/kernel/kernel-attach.js';
import { loadBases, shapeOf, type Base } from '../support/damage/bases.js';
import { DAMAGERS, type BaseName, type Damager } from '../support/damage/damagers.js';
import type { Overlay } from '../support/damage/overlay.js';
import { describeWithKernel, KERNEL_TEST_TIMEOUT_MS } from '../support/kernel.js';
import { attachMany, type Attachable, type Attached } from './attach-many.js';
import { expectStatus } from './status.js';

/** Ranges that are read of a cache, and bytes of each. */
const SAMPLES = 24;
const SAMPLE_BYTES = 32 * 1024;
/** Of all images one in so many, others in each kernel; `PCACHE_KERNEL_PREDICTIONS=all` for all of them. */
const SHARE = 3;
const ALL = process.env['PCACHE_KERNEL_PREDICTIONS'] === 'all';
/** Predictions that a kernel has proved wrong before. */
const ONCE_WRONG = /^(KSET_TOO_LONG|CACHE_INFO_SEGMENTS_FEWER) /;
/** `failingAt` stands for a medium that cannot be read; the image is a good one. */
const NOT_IN_AN_IMAGE = /^(METADATA|PAYLOAD)_UNREADABLE$/;

interface Case extends Attachable {
  readonly title: string;
  readonly sha256: string | undefined;
  /** As `pcache info` predicts it; null where it predicts none. */
  readonly status: string | null;
  readonly effects: Readonly<Record<KernelVersion, KernelEffect>>;
}

let bases: Map<BaseName, Base>;
let cases: Case[];

const caseTitle = ({ code, variant, base }: Damager): string =>
  `${code}${variant === undefined ? '' : ` (${variant})`} on ${base}`;

/** One damager of each code and base, and all whose image some kernel is to refuse. */
function chosenDamagers(): Damager[] {
  const seen = new Set<string>();
  return DAMAGERS.filter(({ code, base }) => {
    if (NOT_IN_AN_IMAGE.test(code)) return false;
    const isFirst = !seen.has(`${code} ${base}`);
    seen.add(`${code} ${base}`);
    return isFirst || KERNELS.some((kernel) => kernelEffect(code, kernel) === 'refuses');
  });
}

function* keyRanges(cache: LoadedCache): Generator<ByteRange> {
  for (const { offsetBytes, lengthBytes } of liveEntries(cache)) yield { offsetBytes, lengthBytes };
}

/** A few of the ranges, the first bytes of each: what is read goes to the other machine slowly. */
function sampleOf(ranges: readonly ByteRange[]): ByteRange[] {
  const step = Math.ceil(ranges.length / SAMPLES);
  return ranges
    .filter((_, n) => n % step === 0)
    .map(({ offsetBytes, lengthBytes }) => ({ offsetBytes, lengthBytes: Math.min(lengthBytes, SAMPLE_BYTES) }));
}

function sha256Of(image: Overlay, { backing }: Base, name: BaseName, ranges: readonly ByteRange[]): string {
  const reader = new LogicalReader(image, loadCacheOrThrow(image, { ...shapeOf(name), checkPayload: false }), {
    path: 'backing',
    sizeBytes: shapeOf(name).backingBytes,
    readSync: (...args) => backing.read(...args),
  });
  const hash = createHash('sha256');
  for (const { offsetBytes, lengthBytes } of ranges) {
    const bytes = new Uint8Array(lengthBytes);
    reader.read(offsetBytes, bytes, 0, lengthBytes);
    hash.update(bytes);
  }
  return hash.digest('hex');
}

function makeCase(damager: Damager): Case {
  const base = bases.get(damager.base)!;
  const own = base.device.clone();
  const image = (damager.damage(own) ?? own) as Overlay;
  const shape = shapeOf(damager.base, damager.backingBytes);
  const { kernels } = judgeCache(image, { ...shape, data: true });
  const effects = Object.fromEntries(KERNELS.map((kernel) => [kernel, kernels[kernel].effect])) as Case['effects'];
  const attaches = KERNELS.some((kernel) => effects[kernel] === 'attaches');
  // Of gc-wrap the kernel frees segments at once, and fills them with what is read then.
  const loaded = loadCache(image, { ...shape, checkPayload: false });
  const isRead = attaches && 'cache' in loaded && damager.base !== 'gc-wrap';
  const ranges = isRead ? sampleOf(mergeRanges([...keyRanges(loaded.cache)])) : [];
  return {
    base: damager.base,
    title: caseTitle(damager),
    image,
    backingBytes: shape.backingBytes,
    ranges,
    sha256: ranges.length > 0 ? sha256Of(image, base, damager.base, ranges) : undefined,
    status: summarise({ pmem: image, backing: undefined, close: () => undefined }).status,
    effects,
  };
}

beforeAll(async () => {
  bases = await loadBases();
  cases = chosenDamagers().map(makeCase);
});

/** What is wrong with what a kernel did, beside what was predicted; undefined if nothing is. */
function surprise({ status: predicted, sha256 }: Case, effect: KernelEffect, attached: Attached): string | undefined {
  const { status } = attached;
  if (effect === 'refuses') return status === undefined ? undefined : `attached: ${status}`;
  if (status === undefined) return `refused: ${attached.said ?? ''}`;
  if (effect === 'empties' && !/ 1 \d+ [0-9a-f]+ 0:0 0:0 0:0$/.test(status)) return `not emptied: ${status}`;
  if (effect !== 'attaches') return undefined;
  if (predicted === null) return `attached, and no status was predicted: ${status}`;
  try {
    expectStatus(status, predicted, false);
  } catch {
    return `status ${status}, predicted ${predicted}`;
  }
  return attached.sha256 === sha256 ? undefined : 'reads otherwise';
}

describeWithKernel('an image for every finding', (kernel) => {
  it('is refused, attached or emptied as the check predicts', { timeout: KERNEL_TEST_TIMEOUT_MS * 2 }, async () => {
    const version = kernelOf(kernel.version);
    const first = version === '7.3' ? 1 : 0;
    const isShown = ({ title }: Case, n: number): boolean => ALL || n % SHARE === first || ONCE_WRONG.test(title);
    const shown = cases.filter(({ effects }) => effects[version] !== 'crashes').filter(isShown);
    const { attached, output } = await attachMany(kernel, bases, shown);
    const rows = shown.map((one, n) => ({ one, attached: attached[n], effect: one.effects[version] }));
    const table = rows.map(({ one, attached: { status, said }, effect }) =>
      [one.title, effect, status ?? 'refused', said ?? ''].join('\t'),
    );
    if (process.env['PCACHE_KERNEL_TABLE'] !== undefined)
      appendFileSync(process.env['PCACHE_KERNEL_TABLE'], `${kernel.version}\n${table.join('\n')}\n`);
    const wrong = rows.flatMap(({ one, attached: done, effect }) => {
      const what = surprise(one, effect, done);
      return what === undefined ? [] : [`${one.title}: predicted ${effect}, ${what}`];
    });
    expect(wrong, output).toEqual([]);
  });
});
