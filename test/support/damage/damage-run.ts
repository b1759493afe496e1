/**
 * One random damage from beginning to end: check, repair, check, and what the cache reads as at each point, held
 * against the sound one. Everything follows from the seed.
 */
import { PcacheError } from '../../../src/engine/errors.js';
import { GENERATION_BYTES } from '../../../src/engine/media/codecs.js';
import { KEY_BYTES, KSET_BYTES_MAX, KSET_HEADER_BYTES } from '../../../src/engine/media/kset.js';
import { LogWalker } from '../../../src/engine/media/log-walker.js';
import { readMetadata } from '../../../src/engine/media/metadata.js';
import { Random } from '../../../src/engine/sim/random.js';
import { checkCache, type CheckResult } from '../../../src/fsck/check.js';
import { nothingLost, summarizeLosses } from '../../../src/fsck/repair/losses.js';
import { mergeRanges, type ByteRange } from '../../../src/fsck/repair/ranges.js';
import {
  codesOf,
  damagedPayload,
  listedRanges,
  repairOverlay,
  unexpected,
  UndoInMemory,
  type Subject,
} from './oracle.js';
import type { Overlay } from './overlay.js';
import { ACCIDENT_KINDS } from './accidents.js';
import { damageAtAll, damageByChance, type DamageKind } from './random-damage.js';

/**
 * `harmless`: no finding, and it reads as before. `traceless`: no finding, and the end of the log is gone without a
 * trace. `refused`: nothing says any more that it is a cache. `repaired`: clean again, nothing lost. `listed`: clean
 * again, and what is lost was listed. `left`: findings are left, and the status says so.
 * `rolled back`: part of the device was as it had been before, valid in itself, and reads as it did then.
 */
export const OUTCOMES = [
  'harmless',
  'traceless',
  'refused',
  'repaired',
  'listed',
  'declined',
  'left',
  'rolled back',
] as const;
export type Outcome = (typeof OUTCOMES)[number];

export interface DamageRun {
  readonly kinds: readonly DamageKind[];
  readonly outcome: Outcome;
  /** What must not be; '' when all is well. */
  readonly failure: string;
  /** Codes that the check reported, and those left at the end. */
  readonly found: readonly string[];
  readonly left: readonly string[];
}

const DIFFERS = 'bytes differ';
const ROLLBACKS: readonly DamageKind[] = ['snapshot', 'torn words', 'other device', 'stale copy'];

/** What no repair is offered for: what was cut off cannot be made up. */
const BEYOND_REPAIR: readonly string[] = ['DEVICE_TOO_SMALL', 'SUPERBLOCK_SEGMENTS_FEWER'];

/** From this seed on there are accidents among the damages; earlier ones mean what they always did. */
export const ACCIDENTS_FROM_SEED = 130_000_000;

/** By so much of the last kset the end of the log is known again where it was moved. */
const END_OF_KSET_BYTES = 32;

/** @param seed of this one damage */
export async function runDamage(subject: Subject, seed: number): Promise<DamageRun> {
  const random = new Random(seed);
  let device = subject.device.clone();
  const kinds: DamageKind[] = [];
  const count = random.pick([1, 1, 1, 1, 1, 2, 2, 3, 5]);
  for (let n = 0; n < count; n++) {
    if (seed < ACCIDENTS_FROM_SEED) {
      kinds.push(damageByChance(subject, device, random));
      continue;
    }
    const damage = damageAtAll(subject, device, random);
    ({ device } = damage);
    kinds.push(damage.kind);
  }
  const dropCorrupt = random.chance(0.8);
  const run = { kinds, outcome: 'left' as Outcome, failure: '', found: [] as string[], left: [] as string[] };
  try {
    await judge(subject, device, dropCorrupt, run);
    // What was restored from an earlier state is valid in itself: nothing on the device tells that it is not the newest.
    if (run.failure.includes(DIFFERS) && kinds.some((kind) => ROLLBACKS.includes(kind))) {
      run.outcome = 'rolled back';
      run.failure = '';
    }
  } catch (error) {
    run.failure = error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  return run;
}

interface Verdict {
  readonly kinds: readonly DamageKind[];
  outcome: Outcome;
  failure: string;
  found: string[];
  left: string[];
}

async function judge(subject: Subject, device: Overlay, dropCorrupt: boolean, run: Verdict): Promise<void> {
  const damaged = device.clone();
  const silent = mergeRanges(damagedPayload(subject, damaged));
  let checked: CheckResult;
  try {
    checked = checkCache(device, { ...subject.shape, data: true });
  } catch (error) {
    if (!(error instanceof PcacheError) || !['NOT_PCACHE', 'UNSUPPORTED'].includes(error.code)) throw error;
    run.outcome = 'refused';
    return;
  }
  run.found = codesOf(checked);
  const gone: ByteRange[] = tracelessKeys(subject, damaged);
  if (checked.clean) {
    run.failure = unexpected(subject, device, silent);
    run.outcome = 'harmless';
    if (run.failure === '') return;
    gone.push(...movedKsets(subject, damaged, device));
    if (gone.length === 0) return;
    run.failure = unexpected(subject, device, [...silent, ...gone]);
    run.outcome = 'traceless';
    return;
  }
  const undo = new UndoInMemory();
  const policy = { acceptLoss: true, dataCrc: subject.dataCrc };
  let result = await repairOverlay(device, subject.shape, undo, { ...policy, dropCorrupt });
  run.left = codesOf(result.after);
  const declined = !result.after.clean && result.declined.length > 0;
  let made = result.made;
  const isAccident = run.kinds.some((kind) => (ACCIDENT_KINDS as readonly string[]).includes(kind));
  if (declined) {
    result = await repairOverlay(device, subject.shape, undo, { ...policy, dropCorrupt: true });
    made = [...made, ...result.made];
  }
  if (result.after.clean) {
    const losses = summarizeLosses(made, []);
    const moved = movedKsets(subject, damaged, device);
    const isListed = !nothingLost(losses);
    run.outcome = declined ? 'declined' : isListed ? 'listed' : 'repaired';
    // The result says that more may be lost, and so does the exit status; but it must open.
    const known = losses.complete ? listedRanges(made) : [{ offsetBytes: 0, lengthBytes: subject.shape.backingBytes }];
    run.failure = unexpected(subject, device, [...silent, ...gone, ...moved, ...known]);
  } else if (isAccident || result.after.findings.every(({ code }) => BEYOND_REPAIR.includes(code))) {
    run.outcome = 'left';
  } else {
    run.failure = `no repair is offered for ${codesOf(result.after).join(', ')}`;
  }
  undo.apply(device);
  if (device.differences(damaged).length > 0) run.failure ||= 'the undo does not take it back';
}

/**
 * Keys of ksets at the end of the log that are gone without a trace: the first begins with zeroes, as the end of a
 * log does, and none is whole, but perhaps one with a single key, or is so
 * of present generations. No one can tell that from a log that ended there over what a torn kset left.
 */
function tracelessKeys(subject: Subject, damaged: Overlay): ByteRange[] {
  const differs = (at: number, length: number): boolean =>
    Buffer.compare(subject.device.bytes(at, length), damaged.bytes(at, length)) !== 0;
  const gone = new Set<number>();
  let pending: number[] = [];
  let wholeKeys = 0;
  for (const kset of [...subject.ksets].reverse()) {
    const keys = subject.keys.filter(({ headerAt }) => headerAt === kset.offsetBytes);
    const outdated = keys.some(({ generationAt }) => differs(generationAt, 2 * GENERATION_BYTES));
    if (!outdated && !differs(kset.offsetBytes, kset.lengthBytes)) {
      wholeKeys += keys.length;
      if (wholeKeys > 1) break;
    }
    pending.push(kset.offsetBytes);
    if (damaged.bytes(kset.offsetBytes, KSET_HEADER_BYTES).every((byte) => byte === 0)) {
      for (const place of pending) gone.add(place);
      pending = [];
    }
  }
  for (const place of [
    ...behindLostLink(subject, damaged),
    ...fromLikeTorn(subject, damaged),
    ...behindMovedEnd(subject, damaged),
  ])
    gone.add(place);
  return subject.keys.filter((key) => gone.has(key.headerAt));
}

/**
 * Ranges of keys in ksets of the log that the damage has put there whole, or so that their CRC mends them: blocks of
 * this log or an old one that changed places. Their keys are of present generations, and nothing tells that they are
 * old, or in another order than they were.
 */
function movedKsets(subject: Subject, damaged: Overlay, device: Overlay): ByteRange[] {
  const { geometry } = subject.shape;
  const { chain, keyTail } = readMetadata(device, geometry);
  if (keyTail.value === undefined) return [];
  const walker = new LogWalker(device, geometry, chain, keyTail.value);
  const whole = new Set(
    subject.ksets.map(({ offsetBytes, lengthBytes }) =>
      Buffer.from(subject.device.bytes(offsetBytes, lengthBytes)).toString('latin1'),
    ),
  );
  const ranges: ByteRange[] = [];
  while (walker.next()) {
    const at = chain.dataOffsetBytes[walker.segment] + walker.offsetBytes;
    const { lengthBytes, keyCount } = walker.kset;
    const now = device.bytes(at, lengthBytes);
    const untouched = Buffer.compare(now, subject.device.bytes(at, lengthBytes)) === 0;
    const isThere = Buffer.compare(now, damaged.bytes(at, lengthBytes)) === 0;
    if (untouched || !(isThere || whole.has(Buffer.from(now).toString('latin1')))) continue;
    for (let index = 0; index < keyCount; index++) {
      ranges.push({ offsetBytes: walker.kset.keyOffsetBytes(index), lengthBytes: walker.kset.keyLengthBytes(index) });
    }
  }
  return ranges;
}

/**
 * Places of the ksets behind a LAST kset that is zeroes now, when the beginning of the segment that it led to is gone
 * as well: nothing leads there any more, from either side.
 */
function behindLostLink({ ksets, device }: Subject, damaged: Overlay): number[] {
  const isGone = (at: number): boolean =>
    Buffer.compare(device.bytes(at, KSET_HEADER_BYTES), damaged.bytes(at, KSET_HEADER_BYTES)) !== 0;
  const isZero = (at: number): boolean => damaged.bytes(at, KSET_HEADER_BYTES).every((byte) => byte === 0);
  const link = ksets.findIndex(({ offsetBytes, lengthBytes }, n) => {
    const next = ksets[n + 1];
    const leadsOn = next !== undefined && next.offsetBytes !== offsetBytes + lengthBytes;
    return leadsOn && isZero(offsetBytes) && isGone(next.offsetBytes);
  });
  return link < 0 ? [] : ksets.slice(link + 1).map(({ offsetBytes }) => offsetBytes);
}

/**
 * Places of the ksets from one on whose header, and no more, is zeroes now, when the log ends where a single kset in
 * its place would end: that is what a crash leaves that tore a kset over old ones.
 */
function fromLikeTorn({ ksets, end }: Subject, damaged: Overlay): number[] {
  const isZero = (at: number, length: number): boolean =>
    damaged.bytes(at, Math.min(length, damaged.sizeBytes - at)).every((byte) => byte === 0);
  const isKsetLength = (bytes: number): boolean =>
    bytes <= KSET_BYTES_MAX && (bytes - KSET_HEADER_BYTES) % KEY_BYTES === 0;
  const torn = ksets.findIndex(({ offsetBytes }) => {
    const length = end - offsetBytes;
    const fits = isKsetLength(length) || isKsetLength(length - 8);
    return fits && isZero(offsetBytes, KSET_HEADER_BYTES) && !isZero(offsetBytes, 64);
  });
  return torn < 0 ? [] : ksets.slice(torn).map(({ offsetBytes }) => offsetBytes);
}

/**
 * Places of the ksets that the log no longer comes to, when the end of it was moved before them, with what lies behind
 * it: the log ends as it ever did, and goes over into what an earlier one left.
 */
function behindMovedEnd({ ksets, end, device, shape, tail }: Subject, damaged: Overlay): number[] {
  const { chain } = readMetadata(damaged, shape.geometry);
  if (tail.segment >= chain.length) return [];
  const walker = new LogWalker(damaged, shape.geometry, chain, tail);
  const reached = new Set<number>();
  while (walker.next()) reached.add(chain.dataOffsetBytes[walker.segment] + walker.offsetBytes);
  const newEnd = chain.dataOffsetBytes[walker.segment] + walker.offsetBytes;
  const around = (image: Overlay, at: number): Uint8Array =>
    image.bytes(at - END_OF_KSET_BYTES, END_OF_KSET_BYTES + KSET_HEADER_BYTES);
  if (newEnd === end || Buffer.compare(around(damaged, newEnd), around(device, end)) !== 0) return [];
  return ksets.map(({ offsetBytes }) => offsetBytes).filter((place) => !reached.has(place));
}
