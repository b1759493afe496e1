/**
 * Packs a cache into one file (`engine/pack/pack-format.ts`), with or without the payload. The cache may be
 * damaged: that is what packs are for. The same cache gives the same bytes. Constant memory, one pass over the
 * device besides the check of the payload.
 */
import { brotliCompressSync, constants } from 'node:zlib';
import type { PmemReader } from '../engine/device/pmem.js';
import { PcacheError } from '../engine/errors.js';
import {
  encodePackFrame,
  encodePackHeader,
  FrameKind,
  PACK_CHUNK_BYTES,
  PACK_PAGE_BYTES,
} from '../engine/pack/pack-format.js';
import { appendRange, type ByteRange } from '../engine/media/byte-range.js';
import { CRC_SEED, type Crc32c } from '../engine/media/crc32c.js';
import { segmentCountFor, type Geometry } from '../engine/media/geometry.js';
import { ksetBytes } from '../engine/media/kset.js';
import { examine, type Examination } from '../fsck/check.js';
import type { Finding } from '../fsck/findings.js';
import { keysWithoutHeader } from '../fsck/torn-or-lost.js';
import { verdictOf } from '../fsck/gate.js';
import { isZero, Redaction } from './redact.js';
import { findVerdicts } from './verdicts.js';

/** Payload is much and seldom compresses well; what is packed without it is little, and is to be small. */
const QUALITY = { payload: 2, metadata: 9 } as const;
const LOG2_CHUNK_BYTES = 18;

export interface PackOptions {
  readonly geometry: Geometry;
  readonly crc: Crc32c;
  /** Whether the payload goes in too. */
  readonly payload: boolean;
}

export type PackPhase = 'check' | 'pack';

/** A piece of the file, or only how far it is. */
export interface PackStep {
  readonly phase: PackPhase;
  readonly doneBytes: number;
  /** What `doneBytes` comes to at the end of the phase; undefined where that is not known. */
  readonly totalBytes?: number;
  readonly bytes?: Uint8Array;
}

export interface PackTotals {
  deviceBytes: number;
  packedBytes: number;
  /** Ksets in it, those that are not part of the log included; of packs without payload. */
  ksets: number;
  /** Keys of the log whose payload did not match its CRC or could not be read; of packs without payload. */
  badPayloads: number;
  /** Bytes of the device that could not be read, and where they are. */
  unreadableBytes: number;
  unreadable: ByteRange[];
  /** Findings that mean dirty data may be lost or old. */
  losses: readonly Finding[];
}

/**
 * Yields the file piece by piece.
 * @throws PcacheError as `checkCache` does for what is no cache
 */
export function* packSteps(pmem: PmemReader, options: PackOptions): Generator<PackStep, PackTotals> {
  const packer = new Packer(pmem, options);
  yield* packer.run();
  return packer.totals;
}

class Packer {
  readonly totals: PackTotals;
  /** Frames of nothing that are not written yet, since the next one may be of the same kind. */
  private pending = { kind: FrameKind.zero as number, offsetBytes: 0, rawBytes: 0 };
  private done = 0;
  private readonly buffer = Buffer.alloc(PACK_CHUNK_BYTES + Redaction.aheadBytes);

  constructor(
    private readonly pmem: PmemReader,
    private readonly options: PackOptions,
  ) {
    this.totals = {
      deviceBytes: pmem.sizeBytes,
      packedBytes: 0,
      ksets: 0,
      badPayloads: 0,
      unreadableBytes: 0,
      unreadable: [],
      losses: [],
    };
  }

  *run(): Generator<PackStep> {
    const { pmem, options } = this;
    const { geometry, payload } = options;
    const examination = this.examine();
    if (examination !== undefined) this.totals.losses = verdictOf(examination.result).losses;
    yield this.step(encodePackHeader({ deviceBytes: pmem.sizeBytes, geometry, hasPayload: payload }));
    const redaction = payload ? undefined : this.redaction(examination);
    for (let at = 0; at < pmem.sizeBytes; at += PACK_CHUNK_BYTES) {
      yield* this.window(at, Math.min(PACK_CHUNK_BYTES, pmem.sizeBytes - at), redaction);
    }
    yield* this.endRun();
    if (redaction !== undefined) {
      this.totals.ksets = redaction.ksets;
      if (examination !== undefined) yield* this.verdicts(examination);
    }
    yield this.step(encodePackFrame(frameOf(FrameKind.end, pmem.sizeBytes, 0)));
  }

  /** Undefined where the medium fails under the metadata. */
  private examine(): Examination | undefined {
    const { geometry, crc } = this.options;
    try {
      return examine(this.pmem, { geometry, crc, data: false });
    } catch (error) {
      if (!(error instanceof PcacheError) || error.code !== 'IO') throw error;
      return undefined;
    }
  }

  private redaction(examination: Examination | undefined): Redaction {
    const { geometry } = this.options;
    const ksetOffsets: number[] = [];
    const keys: ByteRange[] = [];
    if (examination !== undefined) {
      const { header, chain, log } = examination;
      for (const position of [header.keyTail, header.dirtyTail, log?.facts.end]) {
        if (position === undefined || position.segment >= chain.length) continue;
        ksetOffsets.push(chain.dataOffsetBytes[position.segment] + position.offsetBytes);
      }
      if (log !== undefined && log.facts.end.segment < chain.length) {
        const { end } = log.facts;
        const count = keysWithoutHeader(examination.context, chain, log.facts).keys;
        const offsetBytes = chain.dataOffsetBytes[end.segment] + end.offsetBytes;
        if (count > 0) keys.push({ offsetBytes, lengthBytes: ksetBytes(count) });
      }
    }
    return new Redaction(geometry, segmentCountFor(geometry, this.pmem.sizeBytes), ksetOffsets, keys);
  }

  private position(): PackStep {
    return { phase: 'pack', doneBytes: this.done, totalBytes: this.pmem.sizeBytes };
  }

  private step(bytes: Uint8Array): PackStep {
    this.totals.packedBytes += bytes.length;
    return { ...this.position(), bytes };
  }

  private *window(offsetBytes: number, lengthBytes: number, redaction: Redaction | undefined): Generator<PackStep> {
    const { pmem } = this;
    const ahead = redaction === undefined ? 0 : Redaction.aheadBytes;
    const bytes = this.buffer.subarray(0, Math.min(lengthBytes + ahead, pmem.sizeBytes - offsetBytes));
    const unreadable = this.read(offsetBytes, bytes);
    const isUnreadable = (at: number): boolean => unreadable.has(at);
    this.done = offsetBytes + lengthBytes;
    const left = redaction?.apply(bytes, offsetBytes, lengthBytes, isUnreadable) ?? true;
    const content = bytes.subarray(0, lengthBytes);
    if (unreadable.size > 0) {
      yield* this.pages(offsetBytes, content, isUnreadable);
    } else if (!left) {
      yield* this.nothing(FrameKind.absent, offsetBytes, lengthBytes);
    } else {
      yield* this.content(offsetBytes, content);
    }
  }

  /** A window some of whose pages could not be read. */
  private *pages(offsetBytes: number, content: Buffer, isUnreadable: (at: number) => boolean): Generator<PackStep> {
    for (let at = 0; at < content.length; at += PACK_PAGE_BYTES) {
      const page = content.subarray(at, Math.min(at + PACK_PAGE_BYTES, content.length));
      if (!isUnreadable(offsetBytes + at)) {
        yield* this.content(offsetBytes + at, page);
        continue;
      }
      this.totals.unreadableBytes += page.length;
      appendRange(this.totals.unreadable, { offsetBytes: offsetBytes + at, lengthBytes: page.length });
      yield* this.nothing(FrameKind.unreadable, offsetBytes + at, page.length);
    }
  }

  private *content(offsetBytes: number, content: Buffer): Generator<PackStep> {
    if (isZero(content)) yield* this.nothing(FrameKind.zero, offsetBytes, content.length);
    else yield* this.packed(FrameKind.data, offsetBytes, content);
  }

  private *nothing(kind: number, offsetBytes: number, rawBytes: number): Generator<PackStep> {
    if (this.pending.rawBytes > 0 && this.pending.kind !== kind) yield* this.endRun();
    if (this.pending.rawBytes === 0) this.pending = { kind, offsetBytes, rawBytes };
    else this.pending.rawBytes += rawBytes;
    yield this.position();
  }

  private *endRun(): Generator<PackStep> {
    const { kind, offsetBytes, rawBytes } = this.pending;
    if (rawBytes === 0) return;
    this.pending.rawBytes = 0;
    yield this.step(encodePackFrame(frameOf(kind, offsetBytes, rawBytes)));
  }

  private *packed(kind: number, offsetBytes: number, raw: Uint8Array): Generator<PackStep> {
    yield* this.endRun();
    const { crc, payload } = this.options;
    const packed = brotliCompressSync(raw, {
      params: {
        [constants.BROTLI_PARAM_QUALITY]: payload ? QUALITY.payload : QUALITY.metadata,
        [constants.BROTLI_PARAM_LGWIN]: LOG2_CHUNK_BYTES,
        [constants.BROTLI_PARAM_SIZE_HINT]: raw.length,
      },
    });
    const frame = { ...frameOf(kind, offsetBytes, raw.length), packedBytes: packed.length };
    yield this.step(encodePackFrame({ ...frame, crc: crc(CRC_SEED, packed, 0, packed.length) }));
    yield this.step(packed);
  }

  private *verdicts(examination: Examination): Generator<PackStep> {
    const { geometry, crc } = this.options;
    const steps = findVerdicts(this.pmem, geometry, crc, examination);
    for (let one = steps.next(); ; one = steps.next()) {
      if (!one.done) {
        yield { phase: 'check', doneBytes: one.value };
        continue;
      }
      if (one.value === undefined) return;
      this.totals.badPayloads = one.value.bad.length;
      yield* this.packed(FrameKind.verdicts, 0, new TextEncoder().encode(JSON.stringify(one.value)));
      return;
    }
  }

  /** Fills `bytes` from the device. @returns the pages that it cannot read, by their byte on the device */
  private read(offsetBytes: number, bytes: Buffer): Set<number> {
    const unreadable = new Set<number>();
    if (this.canRead(offsetBytes, bytes, 0, bytes.length)) return unreadable;
    for (let at = 0; at < bytes.length; at += PACK_PAGE_BYTES) {
      const length = Math.min(PACK_PAGE_BYTES, bytes.length - at);
      if (this.canRead(offsetBytes, bytes, at, length)) continue;
      bytes.fill(0, at, at + length);
      unreadable.add(offsetBytes + at);
    }
    return unreadable;
  }

  private canRead(offsetBytes: number, bytes: Buffer, at: number, lengthBytes: number): boolean {
    try {
      this.pmem.read(offsetBytes + at, bytes, at, lengthBytes);
      return true;
    } catch (error) {
      if (!(error instanceof PcacheError) || error.code !== 'IO') throw error;
      return false;
    }
  }
}

function frameOf(kind: number, offsetBytes: number, rawBytes: number) {
  return { kind, packedBytes: 0, offsetBytes, rawBytes, crc: 0 };
}
