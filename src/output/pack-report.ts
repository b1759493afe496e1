/** The output of `pcache pack` and `pcache unpack`. Pure. */
import { lossText } from '../fsck/gate.js';
import type { PackTotals } from '../pack/pack.js';
import type { UnpackTotals } from '../pack/unpack.js';
import { formatBytes, formatCount } from './units.js';
import { unreadableLines } from './unreadable-lines.js';

export interface PackJson extends PackTotals {
  readonly path: string;
  /** Null for standard output. */
  readonly file: string | null;
  readonly payload: boolean;
}

export interface UnpackJson extends UnpackTotals {
  readonly file: string;
  readonly path: string;
}

export function packLine(pack: PackJson): string {
  const { path, file, packedBytes, deviceBytes } = pack;
  const what = pack.payload ? 'with its data' : `${formatCount(pack.ksets)} ksets, no data`;
  const size = `${formatBytes(packedBytes)} for ${formatBytes(deviceBytes)}`;
  return `${path}: packed into ${file ?? 'standard output'}: ${what}, ${size}`;
}

/** Damage found while packing. */
export function packNotes({ path, badPayloads, unreadable, losses }: PackJson): string[] {
  const notes: string[] = [];
  if (losses.length > 0) notes.push(lossText(path, losses));
  if (badPayloads > 0) {
    const keys = `${formatCount(badPayloads)} key${badPayloads === 1 ? '' : 's'}`;
    notes.push(`${path}: ${keys} with bad payload; the pack records which`);
  }
  return [...notes, ...unreadableLines(path, unreadable, 'the pack records where')];
}

/** What of the cache could not be read when it was packed. */
export function unpackNotes({ path, unreadable }: UnpackJson): string[] {
  return unreadableLines(path, unreadable, 'so it was when the cache was packed; bytes of 0xff stand for it');
}

export function unpackLine({ file, path, deviceBytes, hasPayload }: UnpackJson): string {
  const what = hasPayload ? 'a copy of the cache' : 'metadata only; not usable as a cache';
  return `${file}: unpacked into ${path}: ${formatBytes(deviceBytes, { exact: true })}, ${what}`;
}
