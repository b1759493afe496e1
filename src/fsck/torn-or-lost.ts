/**
 * Tells a kset that a crash tore, which is a proper end of the log, from one that was lost: then ksets that belong to the
 * log follow its end. Nothing on media says where the log ends. See `orphan-ksets.ts` for how ksets are told from
 * leftovers.
 */
import type { Position } from '../engine/media/codecs.js';
import {
  KEY_BYTES,
  KEY_FLAG_CLEAN,
  KSET_BYTES_MAX,
  KSET_HEADER_BYTES,
  KSET_KEYS_MAX,
  ksetBytes,
  KsetField,
  KsetView,
} from '../engine/media/kset.js';
import { BrokenKsets, findBrokenKsets } from './broken-ksets.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';
import { positionText } from '../engine/media/position-text.js';
import type { LogFacts } from './log-check.js';
import { isBehindClaims, OrphanKsets, zeroBytesAt, type BrokenSearch, type LostRun } from './orphan-ksets.js';
import { payloadMatch } from './payload-match.js';

/**
 * Nobody writes that many zeroes into the log, even where an old kset is left behind the 24 at its end: they are what
 * a lost or cleared piece of the medium reads as. A payload CRC is not zero, but without data_crc that field is.
 */
const ZEROES_OF_DAMAGE = 64;
const ZEROES_OF_DAMAGE_WITH_CRCS = 48;
/** data_crc and what is reserved behind it. */
const ZERO_END_OF_KEY_BYTES = 8;

/** Reports where the log ends when ksets that belong to it follow, or when a torn one lies there. */
export function checkLogEnd(context: CheckContext, chain: CheckedChain, facts: LogFacts): void {
  const { end, endReason } = facts;
  const ordinary = endReason === 'bad-magic' || endReason === 'bad-crc' || endReason === 'bad-key-count';
  if (!ordinary) return;
  const proper = zeroBytesAt(context, chain, end, KSET_HEADER_BYTES) === KSET_HEADER_BYTES;
  const where = `kset ${positionText(end)}`;
  const brokenKsets = new BrokenKsets(context, chain, facts);
  const run = findLostRun(context, chain, facts, brokenKsets);
  const keys = run === undefined && proper ? bodyKeys(context, chain, facts) : 0;
  if (run !== undefined) {
    // Only a LAST kset leads to the beginning of a segment, and a new cache begins with blank ones.
    const elsewhere = run.first.segment !== end.segment;
    const proven = run.isNewer === true || run.isOfThisCache === true;
    const broken = !proper || elsewhere || proven || isWiped(context, chain, facts);
    context.findings.add(
      broken ? 'LOG_CUT_SHORT' : 'LOG_MAYBE_CUT_SHORT',
      where,
      `${reasonText(facts)}, but ${runText(run)}`,
    );
  } else if (!proper) {
    context.findings.add('LOG_END_TORN', where, reasonText(facts));
  } else if (keys > 0) {
    const detail = `there is no header, but ${keys} keys of a kset that is newer than the log`;
    context.findings.add('LOG_END_TORN', where, detail);
  } else {
    const [broken] = brokenKsets.isComplete ? brokenKsets.positions : findBrokenKsets(context, chain, facts);
    if (broken === undefined) return;
    const at = positionText(broken);
    const detail = `${reasonText(facts)}, but a broken kset with keys of present generations follows at ${at}`;
    context.findings.add('LOG_MAYBE_CUT_SHORT', where, detail);
  }
}

/**
 * What follows the end of the log and belongs to it.
 * @param broken takes what else is met on the way
 */
export function findLostRun(
  context: CheckContext,
  chain: CheckedChain,
  facts: LogFacts,
  broken?: BrokenSearch,
): LostRun | undefined {
  const { end } = facts;
  const runs = new OrphanKsets(context, chain, facts);
  const wiped = isWiped(context, chain, facts);
  const search = {
    pastStale: true,
    ...(wiped ? { keysMin: 1, isDamaged: true } : {}),
    ...(broken === undefined ? {} : { broken }),
  };
  const run = runs.findAfter(end.segment, end.offsetBytes + 8, search) ?? runs.longestElsewhere();
  if (run === undefined || wiped || run.isNewer === true) return run;
  return liesInTornKset(context, chain, end, run) ? undefined : run;
}

/**
 * Keys behind 24 zero bytes at the end of the log, where those of the next kset would be, if nothing but a later kset of
 * this log left them: a kset whose header is gone, or that a crash tore.
 * @returns how many keys such a kset has room for, up to the last of them; 0 when there is none
 */
export function bodyKeys(context: CheckContext, chain: CheckedChain, facts: LogFacts): number {
  const { keys, isNewer } = keysWithoutHeader(context, chain, facts);
  return isNewer ? keys : 0;
}

/**
 * Looks for valid keys where those of a kset at key_head would be, whether or not there is a header: how many there
 * would be up to the last of them, and whether a later kset of this log left them. It did where one was written after
 * all that the log claims in its segment, or where nothing else can have left it: the log's own segment was never
 * collected, so no earlier lap of the log was there, and holds no later kset, so no earlier cache was either. There,
 * keys in front of a good one may be gone too.
 */
export function keysWithoutHeader(
  context: CheckContext,
  chain: CheckedChain,
  facts: LogFacts,
): { readonly keys: number; readonly isNewer: boolean } {
  const { end } = facts;
  const available = Math.min(KSET_BYTES_MAX, context.geometry.segmentDataBytes - end.offsetBytes);
  if (available < ksetBytes(1)) return { keys: 0, isNewer: false };
  const bytes = new Uint8Array(available);
  context.source.read(chain.dataOffsetBytes[end.segment] + end.offsetBytes, bytes, 0, available);
  const kset = new KsetView().attach(bytes, 0);
  let isNewer = false;
  let inRow = 0;
  let last = 0;
  for (let index = 0; ksetBytes(index + 1) <= available; index++) {
    if (!isUnclaimedKey(context, chain, facts, kset, index)) continue;
    last = index + 1;
    if (inRow !== index) continue;
    inRow = last;
    isNewer ||= isBehindClaims(facts.payload, kset, index);
  }
  // A new cache begins with a blank header, over whatever an earlier one left there.
  const isFirst =
    last > 0 &&
    end.offsetBytes > 0 &&
    chain.generation[end.segment] === 0 &&
    nextBehindEnd(context, chain, facts) === undefined;
  return isFirst ? { keys: last, isNewer: true } : { keys: inRow, isNewer };
}

/** @returns the next good kset behind the end of the log, in its segment */
function nextBehindEnd(context: CheckContext, chain: CheckedChain, facts: LogFacts): Position | undefined {
  const { segment, offsetBytes } = facts.end;
  const next = new OrphanKsets(context, chain, facts).nextKset(segment, offsetBytes + 8);
  return next === undefined ? undefined : { segment, offsetBytes: next };
}

/** Is there a key that could be of the log: valid, of a present generation, for payload that nothing else is in? */
function isUnclaimedKey(
  context: CheckContext,
  chain: CheckedChain,
  { extents, payload }: LogFacts,
  kset: KsetView,
  index: number,
): boolean {
  if (kset.keyProblem(index, context.geometry, chain.length, context.backingBytes) !== '') return false;
  if ((kset.keyFlags(index) & ~KEY_FLAG_CLEAN) !== 0 || kset.keyReserved(index) !== 0) return false;
  const segment = kset.keySegment(index);
  if (kset.keyGeneration(index) !== chain.generation[segment] || extents.has(segment)) return false;
  return !payload.isClaimed(segment, kset.keySegmentOffsetBytes(index), kset.keyLengthBytes(index));
}

/** Where more is blank than a crash leaves blank, damage did it. */
function isWiped(context: CheckContext, chain: CheckedChain, facts: LogFacts): boolean {
  const zeroes = zeroBytesAt(context, chain, facts.end, ZEROES_OF_DAMAGE);
  if (zeroes < ZEROES_OF_DAMAGE_WITH_CRCS || zeroes === ZEROES_OF_DAMAGE) return zeroes === ZEROES_OF_DAMAGE;
  const next = nextBehindEnd(context, chain, facts);
  return next !== undefined && beginsWithPayloadCrc(context, chain, next);
}

/** Does the first key of a good kset match its payload? Then a cache with data_crc wrote it. */
function beginsWithPayloadCrc(context: CheckContext, chain: CheckedChain, first: Position): boolean {
  const bytes = new Uint8Array(ksetBytes(1));
  context.source.read(chain.dataOffsetBytes[first.segment] + first.offsetBytes, bytes, 0, bytes.length);
  const kset = new KsetView().attach(bytes, 0);
  if (kset.isLast || kset.keyProblem(0, context.geometry, chain.length, Infinity) !== '') return false;
  return payloadMatch(context, chain, kset, 0) === true;
}

/**
 * Whether a run may be what an earlier lap left where a torn kset was being written. Zeroes go out before a kset, to
 * where it will end; what is there of its header is zeroes or right. If it says how long the kset was to be, the run
 * begins within that; if not, the zeroes that the run ends in are taken for those. They may lie over the last bytes of
 * an old key, which are zeroes where there is no data_crc.
 */
function liesInTornKset(context: CheckContext, chain: CheckedChain, end: Position, run: LostRun): boolean {
  if (run.end === undefined || run.end.segment !== end.segment) return false;
  if (isWholeBody(context, chain, end, run.first.offsetBytes)) return false;
  const header = new Uint8Array(KSET_HEADER_BYTES);
  context.source.read(chain.dataOffsetBytes[end.segment] + end.offsetBytes, header, 0, header.length);
  const kset = new KsetView(context.crc).attach(header, 0);
  const isBlank = (from: number, to: number) => header.subarray(from, to).every((byte) => byte === 0);
  if (!kset.magicOk && !isBlank(KsetField.magic, KsetField.flags)) return false;
  if (isBlank(KsetField.keyCount, KsetField.magic)) {
    const runBytes = run.end.offsetBytes - end.offsetBytes;
    return isKsetLength(runBytes) || isKsetLength(runBytes - ZERO_END_OF_KEY_BYTES);
  }
  const length = ksetBytes(kset.keyCount);
  if (!isKsetLength(length) || run.first.offsetBytes >= end.offsetBytes + length) return false;
  const behind = { segment: end.segment, offsetBytes: end.offsetBytes + length };
  return zeroBytesAt(context, chain, behind, KSET_HEADER_BYTES) >= KSET_HEADER_BYTES;
}

/** Are there nothing but good keys from behind a header at `end` up to `nextBytes`? Then a kset was whole there once. */
function isWholeBody(context: CheckContext, chain: CheckedChain, end: Position, nextBytes: number): boolean {
  const length = nextBytes - end.offsetBytes;
  if (!isKsetLength(length)) return false;
  const bytes = new Uint8Array(length);
  context.source.read(chain.dataOffsetBytes[end.segment] + end.offsetBytes, bytes, 0, length);
  const kset = new KsetView().attach(bytes, 0);
  for (let index = 0; ksetBytes(index + 1) <= length; index++) {
    if (kset.keyProblem(index, context.geometry, chain.length, context.backingBytes) !== '') return false;
    if (kset.keyGeneration(index) !== chain.generation[kset.keySegment(index)]) return false;
  }
  return true;
}

function isKsetLength(bytes: number): boolean {
  const keys = (bytes - KSET_HEADER_BYTES) / KEY_BYTES;
  return Number.isInteger(keys) && keys >= 1 && keys <= KSET_KEYS_MAX;
}

function reasonText(facts: LogFacts): string {
  switch (facts.endReason) {
    case 'bad-crc':
      return 'the kset there does not match its CRC';
    case 'bad-key-count':
      return 'the kset there has an impossible number of keys';
    default:
      return 'there is no good kset there';
  }
}

function runText(run: LostRun): string {
  const from = positionText(run.first);
  return `${run.ksets} good ksets with ${run.keys} keys (${run.dirtyBytes} dirty bytes) follow from ${from} on`;
}
