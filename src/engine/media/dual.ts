/**
 * Dual-copy metadata (format §1 "Metadata header"): reads a pair of copies and chooses the one that counts.
 */
import type { MetaHeader } from './codecs.js';
import type { CopyOffsets } from './geometry.js';

/** The source that media code reads: a device or a stand-in for one. `read` throws a `PcacheError` on an I/O error. */
export interface ByteSource {
  readonly sizeBytes: number;
  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void;
}

/** Why a copy won: the other is older, the other is broken, both have the same seq, or neither is good. */
export type WinReason = 'newer' | 'only-valid' | 'same-seq' | 'none';

export interface Dual<T> {
  readonly copies: readonly [T & MetaHeader, T & MetaHeader];
  /** Byte offsets of the copies on the device. */
  readonly offsets: CopyOffsets;
  /** Whether the copy is all zero bytes: a copy that was never written. */
  readonly blank: readonly [boolean, boolean];
  readonly winner: 0 | 1 | -1;
  readonly reason: WinReason;
  /** The copy that counts, or undefined when none is good. */
  readonly value: (T & MetaHeader) | undefined;
}

/** True when 8-bit sequence number `a` is ahead of `b`, by signed 8-bit difference, so that seq may wrap. */
export function seqAfter(a: number, b: number): boolean {
  return ((a - b) << 24) >> 24 > 0;
}

/** Chooses as the kernel does: a good copy over a bad one, then the one ahead, then copy 0. */
export function chooseCopy(first: MetaHeader, second: MetaHeader): { winner: 0 | 1 | -1; reason: WinReason } {
  if (!first.crcOk && !second.crcOk) return { winner: -1, reason: 'none' };
  if (!second.crcOk) return { winner: 0, reason: 'only-valid' };
  if (!first.crcOk) return { winner: 1, reason: 'only-valid' };
  if (seqAfter(second.seq, first.seq)) return { winner: 1, reason: 'newer' };
  return { winner: 0, reason: first.seq === second.seq ? 'same-seq' : 'newer' };
}

/** Reads both copies of a structure of `lengthBytes` and chooses the one that counts. */
export function readDual<T>(
  source: ByteSource,
  offsets: CopyOffsets,
  lengthBytes: number,
  decode: (bytes: Uint8Array) => T & MetaHeader,
): Dual<T> {
  const bytes = new Uint8Array(2 * lengthBytes);
  source.read(offsets[0], bytes, 0, lengthBytes);
  source.read(offsets[1], bytes, lengthBytes, lengthBytes);
  const first = bytes.subarray(0, lengthBytes);
  const second = bytes.subarray(lengthBytes);
  const copies = [decode(first), decode(second)] as const;
  const { winner, reason } = chooseCopy(copies[0], copies[1]);
  const isBlank = (copy: Uint8Array) => copy.every((byte) => byte === 0);
  return {
    copies,
    offsets,
    blank: [isBlank(first), isBlank(second)],
    winner,
    reason,
    value: winner === -1 ? undefined : copies[winner],
  };
}
