/**
 * What a repair must come to: no finding, or findings that cannot be repaired; a cache that opens; and every byte
 * that is not listed as lost as it was before the damage.
 */
import type { Position } from '../../../src/engine/media/codecs.js';
import { GENERATION_BYTES } from '../../../src/engine/media/codecs.js';
import { generationCopies } from '../../../src/engine/media/geometry.js';
import { KEY_BYTES, KSET_HEADER_BYTES } from '../../../src/engine/media/kset.js';
import { LogWalker } from '../../../src/engine/media/log-walker.js';
import { readMetadata } from '../../../src/engine/media/metadata.js';
import { checkCache, type CheckResult } from '../../../src/fsck/check.js';
import { saysAnything } from '../../../src/fsck/repair/losses.js';
import { mergeRanges, subtractRanges, totalBytes, type ByteRange } from '../../../src/fsck/repair/ranges.js';
import { repairCache, type RepairResult } from '../../../src/fsck/repair/repair.js';
import type { Change, Fix } from '../../../src/fsck/repair/types.js';
import { differingRanges, openPieces, type Piece, type Shape } from './logical.js';
import type { Overlay, OverlayBase } from './overlay.js';

const GENERATIONS_BYTES = 2 * GENERATION_BYTES;

/** A sound cache to damage. */
export interface Subject {
  readonly name: string;
  readonly device: Overlay;
  readonly backing: OverlayBase;
  readonly shape: Shape;
  readonly dataCrc: boolean;
  readonly pieces: readonly Piece[];
  readonly keys: readonly SubjectKey[];
  readonly ksets: readonly SubjectKset[];
  readonly tail: Position;
  readonly end: number;
  /** The device as it was at some time before, where that is known. */
  readonly earlier?: OverlayBase | undefined;
  /** A smaller device, of another cache. */
  readonly makeOther?: (() => OverlayBase) | undefined;
}

export interface SubjectKset {
  /** On the device. */
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface SubjectKey extends ByteRange {
  readonly keyAt: number;
  /** Of its kset's header. */
  readonly headerAt: number;
  readonly payloadAt: number;
  /** The generations of its payload's segment. */
  readonly generationAt: number;
}

export function makeSubject(
  name: string,
  device: Overlay,
  backing: OverlayBase,
  shape: Shape,
  earlier?: OverlayBase,
): Subject {
  const opened = openPieces(device, shape);
  if ('problems' in opened) throw new Error(`${name} does not open: ${opened.problems.join('; ')}`);
  const check = checkCache(device, { ...shape, data: true });
  if (check.findings.length > 0) throw new Error(`${name} is not sound: ${check.findings[0].code}`);
  const metadata = readMetadata(device, shape.geometry);
  const { chain } = metadata;
  const tail = metadata.keyTail.value!;
  const walker = new LogWalker(device, shape.geometry, chain, tail);
  const keys: SubjectKey[] = [];
  const ksets: SubjectKset[] = [];
  while (walker.next()) {
    const { kset } = walker;
    const headerAt = chain.dataOffsetBytes[walker.segment] + walker.offsetBytes;
    ksets.push({ offsetBytes: headerAt, lengthBytes: kset.lengthBytes });
    for (let index = 0; index < kset.keyCount; index++) {
      keys.push({
        offsetBytes: kset.keyOffsetBytes(index),
        lengthBytes: kset.keyLengthBytes(index),
        keyAt: headerAt + KSET_HEADER_BYTES + index * KEY_BYTES,
        headerAt,
        payloadAt: chain.dataOffsetBytes[kset.keySegment(index)] + kset.keySegmentOffsetBytes(index),
        generationAt: generationCopies(shape.geometry, chain.physicalId[kset.keySegment(index)])[0],
      });
    }
  }
  const end = chain.dataOffsetBytes[walker.segment] + walker.offsetBytes;
  const { dataCrc } = metadata.flags;
  return { name, device, backing, shape, dataCrc, pieces: opened.pieces, keys, ksets, tail, end, earlier };
}

/** Keeps in memory what an undo file keeps. */
export class UndoInMemory {
  private readonly old: Change[] = [];

  record(device: Pick<Overlay, 'read'>, changes: readonly Change[]): void {
    for (const { offsetBytes, bytes } of changes) {
      const before = new Uint8Array(bytes.length);
      device.read(offsetBytes, before, 0, before.length);
      this.old.push({ offsetBytes, bytes: before });
    }
  }

  finish(): void {
    // Nothing to be made durable.
  }

  apply(device: Pick<Overlay, 'write'>): void {
    for (const { offsetBytes, bytes } of [...this.old].reverse()) device.write(offsetBytes, bytes);
  }

  rollBack(device: Pick<Overlay, 'write'>): void {
    this.apply(device);
    this.old.length = 0;
  }
}

export interface RepairPolicy {
  readonly dropCorrupt: boolean;
  readonly relinkDoubtful?: boolean;
  /** True if not given. */
  readonly acceptLoss?: boolean;
  /** Only what loses nothing, as with --preen. */
  readonly withoutLoss?: boolean;
  /** What the user would say; that of the subject. */
  readonly dataCrc?: boolean;
}

function isAccepted(fix: Fix, { dropCorrupt, acceptLoss = true, withoutLoss = false }: RepairPolicy): boolean {
  if (withoutLoss && fix.losses.some(saysAnything)) return false;
  if (fix.consent === 'data-crc') return false;
  if (fix.consent === 'accept-loss') return acceptLoss;
  return fix.consent === 'plain' || dropCorrupt;
}

export function repairOverlay(
  device: Overlay,
  shape: Shape,
  undo: UndoInMemory,
  policy: RepairPolicy,
): Promise<RepairResult> {
  return repairCache({
    ...shape,
    device,
    undo,
    data: true,
    relinkDoubtful: policy.relinkDoubtful ?? false,
    dataCrc: policy.dataCrc,
    ask: (fix) => (isAccepted(fix, policy) ? 'yes' : 'no'),
  });
}

export function listedRanges(made: readonly Fix[]): ByteRange[] {
  return mergeRanges(made.flatMap((fix) => fix.losses.flatMap((loss) => loss.ranges)));
}

/**
 * Ranges of keys whose own bytes on the medium the damage changed, or the generation that says whether they count:
 * nobody can know them from there.
 */
export function damagedKeys(subject: Subject, damaged: Overlay): ByteRange[] {
  const differs = (at: number, length: number): boolean =>
    damaged.isTouched(at, length) && Buffer.compare(subject.device.bytes(at, length), damaged.bytes(at, length)) !== 0;
  return subject.keys.filter((key) => differs(key.keyAt, KEY_BYTES) || differs(key.generationAt, GENERATIONS_BYTES));
}

/** Ranges of payload that no CRC protects and that the damage changed: nobody can know of it at all. */
export function damagedPayload(subject: Subject, damaged: Overlay): ByteRange[] {
  if (subject.dataCrc) return [];
  return subject.keys.filter(
    ({ payloadAt, lengthBytes }) =>
      damaged.isTouched(payloadAt, lengthBytes) &&
      Buffer.compare(subject.device.bytes(payloadAt, lengthBytes), damaged.bytes(payloadAt, lengthBytes)) !== 0,
  );
}

/**
 * What `device` reads differently than the sound cache, or why it does not open.
 * @param excused ranges that may differ
 */
export function unexpected(subject: Subject, device: Overlay, excused: readonly ByteRange[]): string {
  const opened = openPieces(device, subject.shape);
  if ('problems' in opened) return `it does not open: ${opened.problems.join('; ')}`;
  const differing = differingRanges(subject, { device, pieces: opened.pieces }, subject.backing);
  const left = subtractRanges(differing, excused);
  if (left.length === 0) return '';
  return `${totalBytes(left)} bytes differ, the first at ${left[0].offsetBytes}`;
}

export function codesOf(result: CheckResult): string[] {
  return [...new Set(result.findings.map((finding) => finding.code))].sort();
}
