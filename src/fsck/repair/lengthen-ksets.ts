/**
 * Makes a gap in the log go away for which no ksets of its length can be: the ksets behind it are written again as
 * longer ones, from where the gap begins. Their first key is repeated as often as it takes, which changes nothing.
 */
import type { Position } from '../../engine/media/codecs.js';
import { KEY_BYTES, KSET_HEADER_BYTES, KSET_KEYS_MAX, ksetBytes, sealKset } from '../../engine/media/kset.js';
import { deviceOffset, walkLog } from './log-walk.js';
import type { PlanView } from './types.js';

/** With this many ksets more or less any length can be filled. */
const KSETS_MAX = 8;

/**
 * @param gap where the gap begins
 * @param behind where the ksets behind it begin, in the same segment
 * @returns what goes from `gap` up to the end of the last kset that is written again, or undefined when that cannot be
 */
export function lengthenOver(view: PlanView, gap: Position, behind: Position): Uint8Array | undefined {
  const keys: Uint8Array[] = [];
  let filled: Uint8Array | undefined;
  let ksets = 0;
  walkLog(view, behind, (kset, position) => {
    if (kset.isLast || position.segment !== behind.segment || ++ksets > KSETS_MAX) return false;
    const bytes = new Uint8Array(kset.lengthBytes);
    view.context.source.read(deviceOffset(view, position), bytes, 0, bytes.length);
    for (let at = KSET_HEADER_BYTES; at < bytes.length; at += KEY_BYTES) keys.push(bytes.subarray(at, at + KEY_BYTES));
    filled = fill(position.offsetBytes + kset.lengthBytes - gap.offsetBytes, keys);
    return filled === undefined;
  });
  return filled;
}

/** Ksets of `lengthBytes` in all, with at least these keys. */
function fill(lengthBytes: number, keys: readonly Uint8Array[]): Uint8Array | undefined {
  for (let ksets = 1; ksets * ksetBytes(1) <= lengthBytes; ksets++) {
    const count = (lengthBytes - ksets * KSET_HEADER_BYTES) / KEY_BYTES;
    if (count < keys.length) return undefined;
    if (!Number.isInteger(count) || count > ksets * KSET_KEYS_MAX) continue;
    const all = [...new Array<Uint8Array>(count - keys.length).fill(keys[0]), ...keys];
    const bytes = new Uint8Array(lengthBytes);
    for (let n = 0, at = 0, from = 0; n < ksets; n++) {
      const size = Math.floor(count / ksets) + (n < count % ksets ? 1 : 0);
      const kset = bytes.subarray(at, at + ksetBytes(size));
      for (let i = 0; i < size; i++) kset.set(all[from + i], KSET_HEADER_BYTES + i * KEY_BYTES);
      sealKset(kset, size);
      at += kset.length;
      from += size;
    }
    return bytes;
  }
  return undefined;
}
