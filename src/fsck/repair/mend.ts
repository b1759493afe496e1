/**
 * Mends a broken kset by its own CRC. CRC-32C tells where a single byte of a kset was changed, and to what it must
 * be changed back; a header whose magic, flags or key count are gone follows from the CRC over what they must have
 * been. What comes out matches the CRC and has only keys that can be: it is what was there.
 *
 * When more is damaged there is no such kset, or, once in thousands of times, one by chance. Its keys are hardly
 * ever all possible, and with data_crc their payload is asked too.
 */
import { structCrc } from '../../engine/media/crc32c.js';
import {
  encodeLastKset,
  KEY_FLAG_CLEAN,
  KSET_BYTES_MAX,
  KSET_HEADER_BYTES,
  KSET_KEYS_MAX,
  KSET_MAGIC_HIGH,
  KSET_MAGIC_LOW,
  ksetBytes,
  KsetField,
  KsetView,
} from '../../engine/media/kset.js';
import type { Position } from '../../engine/media/codecs.js';
import { zeroBytesAt } from '../orphan-ksets.js';
import { checksPayload, deviceOffset, judgeKey, payloadMatches } from './log-walk.js';
import type { PlanView } from './types.js';

const POLYNOMIAL_REFLECTED = 0x82f63b78;
const CRC_BYTES = 4;

const FORWARD = new Uint32Array(256);
/** For each top byte of a table entry, the index of the entry: all 256 differ. */
const INDEX_BY_TOP = new Uint8Array(256);
for (let byte = 0; byte < 256; byte++) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL_REFLECTED : crc >>> 1;
  FORWARD[byte] = crc >>> 0;
  INDEX_BY_TOP[crc >>> 24] = byte;
}

/** A change of one byte: `bytes[at] ^= flips`. */
export interface ByteError {
  readonly at: number;
  readonly flips: number;
}

/**
 * The changes of a single byte that would make the structure `bytes`, which starts with its CRC, match it.
 * The CRC is linear, so each is found by taking the difference back through the bytes behind the changed one.
 */
export function singleByteErrors(bytes: Uint8Array): ByteError[] {
  const stored = new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(0, true);
  let difference = (stored ^ structCrc(bytes, 0, bytes.length)) >>> 0;
  const found: ByteError[] = [];
  for (let at = 0; at < CRC_BYTES; at++) {
    const flips = (difference >>> (8 * at)) & 0xff;
    if (flips !== 0 && difference === (flips << (8 * at)) >>> 0) found.push({ at, flips });
  }
  for (let at = bytes.length - 1; at >= CRC_BYTES && difference !== 0; at--) {
    const index = INDEX_BY_TOP[difference >>> 24];
    const before = (difference ^ FORWARD[index]) >>> 0;
    if (before === 0) found.push({ at, flips: index });
    difference = ((before << 8) | index) >>> 0;
  }
  return found;
}

/**
 * @param isLogEnd nothing of the log follows. There, zeroes may have gone over the beginning of a kset of an
 * earlier lap, in part if a crash came between: nothing that zeroes could have done is taken for damage.
 * @returns the bytes of the kset that was at `position`, or undefined when there is none, or more than one can be.
 */
export function mendKset(view: PlanView, position: Position, isLogEnd: boolean): Uint8Array | undefined {
  const { context } = view;
  const available = context.geometry.segmentDataBytes - position.offsetBytes;
  const bytes = new Uint8Array(Math.min(KSET_BYTES_MAX, available));
  if (bytes.length < KSET_HEADER_BYTES) return undefined;
  context.source.read(deviceOffset(view, position), bytes, 0, bytes.length);
  const found = new Map<string, Uint8Array>();
  for (const candidate of isLogEnd ? ofOneByte(bytes) : candidates(bytes, view.chain.length)) {
    if (isLogEnd && candidate.some((byte, at) => byte !== bytes[at] && bytes[at] === 0)) continue;
    if (isPossible(view, candidate)) found.set(Buffer.from(candidate).toString('latin1'), candidate);
  }
  const [only] = found.values();
  return found.size === 1 ? only : undefined;
}

/** One byte wrong, in a kset of the length that it says, or in a LAST kset. */
function* ofOneByte(bytes: Uint8Array): Generator<Uint8Array> {
  const { keyCount } = new KsetView().attach(bytes, 0);
  const length = keyCount <= KSET_KEYS_MAX ? ksetBytes(keyCount) : Infinity;
  if (length <= bytes.length) yield* withOneByteMended(bytes, length);
  yield* withOneByteMended(bytes, KSET_HEADER_BYTES);
}

function* candidates(bytes: Uint8Array, segmentCount: number): Generator<Uint8Array> {
  yield* ofOneByte(bytes);
  // Its header wrong: every key count there is, under the CRC that is there.
  for (let count = 1; count <= KSET_KEYS_MAX && ksetBytes(count) <= bytes.length; count++) {
    const copy = bytes.slice(0, ksetBytes(count));
    const view = new DataView(copy.buffer);
    view.setUint32(KsetField.keyCount, count, true);
    writeMagic(view);
    if (structCrc(copy, 0, copy.length) === view.getUint32(KsetField.crc, true)) yield copy;
  }
  // A LAST kset, wherever it led to.
  const stored = new KsetView().attach(bytes, 0).crcStored;
  for (let segment = 0; segment < segmentCount; segment++) {
    const last = encodeLastKset(segment);
    if (new DataView(last.buffer).getUint32(KsetField.crc, true) === stored) yield last;
  }
}

function* withOneByteMended(bytes: Uint8Array, length: number): Generator<Uint8Array> {
  for (const { at, flips } of singleByteErrors(bytes.subarray(0, length))) {
    const copy = bytes.slice(0, length);
    copy[at] ^= flips;
    yield copy;
  }
}

function writeMagic(view: DataView): void {
  view.setUint32(KsetField.magic, KSET_MAGIC_LOW, true);
  view.setUint32(KsetField.magic + 4, KSET_MAGIC_HIGH, true);
  view.setUint32(KsetField.flags, 0, true);
  view.setUint32(KsetField.flags + 4, 0, true);
}

/** Whether a kset like this can have been written here. */
function isPossible(view: PlanView, bytes: Uint8Array): boolean {
  const kset = new KsetView(view.context.crc).attach(bytes, 0);
  if (kset.verdict(bytes.length, bytes.length) !== 'ok' || kset.lengthBytes !== bytes.length) return false;
  if (kset.flags !== (kset.isLast ? 1 : 0)) return false;
  if (kset.isLast) return canLeadTo(view, kset.nextSegment);
  if (kset.keyCount === 0) return false;
  for (let index = 0; index < kset.keyCount; index++) {
    if (judgeKey(view, kset, index) !== 'current' || kset.keyReserved(index) !== 0) return false;
    if ((kset.keyFlags(index) & ~KEY_FLAG_CLEAN) !== 0) return false;
    if (checksPayload(view) && !payloadMatches(view, kset, index)) return false;
  }
  return true;
}

/** A LAST kset leads to a kset, or to zeroes where the next one was to go. */
function canLeadTo(view: PlanView, segment: number): boolean {
  const { chain, context, log } = view;
  if (segment >= chain.length || log?.facts.extents.has(segment) === true) return false;
  const start = { segment, offsetBytes: 0 };
  if (zeroBytesAt(context, chain, start, KSET_HEADER_BYTES) === KSET_HEADER_BYTES) return true;
  const bytes = new Uint8Array(KSET_BYTES_MAX);
  context.source.read(deviceOffset(view, start), bytes, 0, bytes.length);
  return new KsetView(context.crc).attach(bytes, 0).verdict(bytes.length, bytes.length) === 'ok';
}
