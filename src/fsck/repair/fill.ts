/**
 * Ksets to close a gap in the log with: nothing tells the length of a kset but the kset itself, so what cannot be
 * read must be replaced by ksets of the same length for the log to go on behind it. Keys that can be kept stay where
 * they are; the others are replaced by the key next to them once more, which says what the log says there anyway.
 */
import { assert } from '../../engine/errors.js';
import {
  KEY_BYTES,
  KSET_HEADER_BYTES,
  KSET_KEYS_MAX,
  KSET_MAGIC_HIGH,
  KSET_MAGIC_LOW,
  ksetBytes,
  KsetField,
  KsetView,
  sealKset,
} from '../../engine/media/kset.js';
import type { ByteRange } from './ranges.js';

export interface Bridge {
  readonly bytes: Uint8Array;
  readonly ksets: number;
  /** What the keys that are in it again are for. */
  readonly kept: readonly ByteRange[];
}

/**
 * @param gap what lies there
 * @param beside a key next to the gap that may be repeated in it
 * @param isProven whether a key of the gap may be kept, as a key of a kset that is not to be trusted otherwise
 * @returns undefined when no ksets can fill it
 */
export function closeGap(
  gap: Uint8Array,
  beside: Uint8Array | undefined,
  isProven: (kset: KsetView, index: number) => boolean,
): Bridge | undefined {
  const sizes = ksetSizesOf(gap) ?? ksetSizesFor(gap.length);
  if (sizes === undefined) return undefined;
  const bytes = gap.slice();
  const kept: ByteRange[] = [];
  let previous = beside;
  let at = 0;
  for (const keys of sizes) {
    const kset = bytes.subarray(at, at + ksetBytes(keys));
    sealKset(kset, keys);
    const view = new KsetView().attach(kset, 0);
    const proven = Array.from({ length: keys }, (_, index) => isProven(view, index));
    for (let index = 0; index < keys; index++) {
      if (proven[index]) {
        previous = keyAt(kset, index);
        kept.push({ offsetBytes: view.keyOffsetBytes(index), lengthBytes: view.keyLengthBytes(index) });
        continue;
      }
      const next = proven.indexOf(true, index);
      const key = previous ?? (next < 0 ? undefined : keyAt(kset, next));
      if (key === undefined) return undefined;
      keyAt(kset, index).set(key);
    }
    sealKset(kset, keys);
    at += kset.length;
  }
  assert(at === bytes.length, 'ksets do not fill the gap they were made for');
  return { bytes, ksets: sizes.length, kept };
}

function keyAt(kset: Uint8Array, index: number): Uint8Array {
  const at = KSET_HEADER_BYTES + index * KEY_BYTES;
  return kset.subarray(at, at + KEY_BYTES);
}

/** Key counts of the ksets that lay in a gap, where their magics show where they began. */
function ksetSizesOf(gap: Uint8Array): number[] | undefined {
  const starts = [0];
  const view = new DataView(gap.buffer, gap.byteOffset, gap.length);
  for (let at = ksetBytes(1); at + ksetBytes(1) <= gap.length; at += 8) {
    const low = view.getUint32(at + KsetField.magic, true);
    if (low === KSET_MAGIC_LOW && view.getUint32(at + KsetField.magic + 4, true) === KSET_MAGIC_HIGH) starts.push(at);
  }
  const sizes: number[] = [];
  for (let i = 0; i < starts.length; i++) {
    const keyBytes = (starts[i + 1] ?? gap.length) - starts[i] - KSET_HEADER_BYTES;
    if (keyBytes % KEY_BYTES !== 0 || keyBytes < KEY_BYTES || keyBytes > KSET_KEYS_MAX * KEY_BYTES) return undefined;
    sizes.push(keyBytes / KEY_BYTES);
  }
  return sizes;
}

/** How many keys each kset has when ksets of at least one key fill `lengthBytes`; undefined when none can. */
export function ksetSizesFor(lengthBytes: number): number[] | undefined {
  for (let ksets = 1; ksets * ksetBytes(1) <= lengthBytes; ksets++) {
    const keyBytes = lengthBytes - ksets * KSET_HEADER_BYTES;
    if (keyBytes % KEY_BYTES !== 0) continue;
    const keys = keyBytes / KEY_BYTES;
    if (keys > ksets * KSET_KEYS_MAX) continue;
    const sizes = new Array<number>(ksets).fill(Math.floor(keys / ksets));
    for (let i = 0; i < keys % ksets; i++) sizes[i]++;
    return sizes;
  }
  return undefined;
}
