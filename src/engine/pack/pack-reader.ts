/**
 * A packed cache as a cache device to look at. Chunks are unpacked when they are first read, and the last few of
 * them kept.
 *
 * A pack without payload answers a CRC with what was found when it was packed, and refuses one that was not
 * asked then; an absent page reads as ones. `hasPayload` tells whether the payload itself can be read.
 */
import type { PmemReader } from '../device/pmem.js';
import { bestCrc32c } from '../device/native.js';
import { PcacheError } from '../errors.js';
import { SECTOR_BYTES, type Geometry } from '../media/geometry.js';
import { LogWalker } from '../media/log-walker.js';
import { PackFile } from './pack-file.js';
import { FrameKind, PACK_ABSENT_BYTE, parseVerdicts, type PackFrame, type PackVerdicts } from './pack-format.js';

const CHUNKS_KEPT = 64;
/** CRCs of long ranges are taken in pieces of this many bytes. */
const CRC_PIECE_BYTES = 1 << 20;

interface PlacedFrame {
  readonly frame: PackFrame;
  readonly atBytes: number;
}

export class PackReader implements PmemReader {
  readonly sizeBytes: number;
  readonly hasPayload: boolean;
  private readonly file: PackFile;
  /** Those that stand for a part of the device, in order. */
  private readonly frames: PlacedFrame[] = [];
  private readonly verdictFrame: PlacedFrame | undefined;
  /** Chunks by number of their frame, the one used last at the end. */
  private readonly chunks = new Map<number, Uint8Array>();
  private verdicts: Verdicts | undefined;
  private readonly crc = bestCrc32c();

  /** @throws PcacheError for a file that is no whole pack */
  constructor(readonly path: string) {
    this.file = new PackFile(path);
    this.sizeBytes = this.file.header.deviceBytes;
    this.hasPayload = this.file.header.hasPayload;
    try {
      for (const placed of this.file.frames()) {
        if (placed.frame.kind === FrameKind.verdicts) this.verdictFrame = placed;
        else this.frames.push(placed);
      }
    } catch (error) {
      this.file.close();
      throw error;
    }
  }

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    const end = offsetBytes + lengthBytes;
    if (!(offsetBytes >= 0 && end <= this.sizeBytes)) {
      throw new PcacheError('OUT_OF_RANGE', `${this.path}: reading beyond the ${this.sizeBytes} bytes of its device`);
    }
    let n = this.frameAt(offsetBytes);
    for (let at = offsetBytes; at < end; n++) {
      const { frame } = this.frames[n];
      const within = at - frame.offsetBytes;
      const length = Math.min(frame.rawBytes - within, end - at);
      const to = targetOffset + at - offsetBytes;
      if (frame.kind === FrameKind.unreadable) {
        throw new PcacheError('IO', `${this.path}: bytes ${at} to ${at + length} could not be read when it was packed`);
      }
      if (frame.kind === FrameKind.data) target.set(this.chunk(n).subarray(within, within + length), to);
      else target.fill(frame.kind === FrameKind.zero ? 0 : PACK_ABSENT_BYTE, to, to + length);
      at += length;
    }
  }

  crc32c(offsetBytes: number, lengthBytes: number, seed: number): number {
    if (!this.hasPayload) {
      this.verdicts ??= new Verdicts(this, this.loadVerdicts(), this.file.header.geometry);
      return this.verdicts.crcOf(offsetBytes, lengthBytes);
    }
    const piece = new Uint8Array(Math.min(CRC_PIECE_BYTES, lengthBytes));
    let crc = seed;
    for (let done = 0; done < lengthBytes; done += piece.length) {
      const length = Math.min(piece.length, lengthBytes - done);
      this.read(offsetBytes + done, piece, 0, length);
      crc = this.crc(crc, piece, 0, length);
    }
    return crc;
  }

  close(): void {
    this.file.close();
  }

  /** Number of the frame that a byte of the device is in. */
  private frameAt(offsetBytes: number): number {
    let low = 0;
    let high = this.frames.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.frames[middle].frame.offsetBytes <= offsetBytes) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  private chunk(n: number): Uint8Array {
    const { frame, atBytes } = this.frames[n];
    const chunk = this.chunks.get(n) ?? this.file.unpack(frame, atBytes);
    this.chunks.delete(n);
    this.chunks.set(n, chunk);
    if (this.chunks.size > CHUNKS_KEPT) this.chunks.delete(this.chunks.keys().next().value!);
    return chunk;
  }

  private loadVerdicts(): PackVerdicts | undefined {
    if (this.verdictFrame === undefined) return undefined;
    const { frame, atBytes } = this.verdictFrame;
    return parseVerdicts(this.path, new TextDecoder().decode(this.file.unpack(frame, atBytes)));
  }
}

/** A place and a length as one number: devices are of at most 2^45 bytes, payload of at most 2^24, both in sectors. */
function placeKey(offsetBytes: number, lengthBytes: number): number {
  return (offsetBytes / SECTOR_BYTES) * 2 ** 16 + lengthBytes / SECTOR_BYTES;
}

/** What was found of the payload of each key of the log. */
class Verdicts {
  private readonly crcs = new Map<number, number | null>();

  constructor(
    private readonly pack: PackReader,
    verdicts: PackVerdicts | undefined,
    geometry: Geometry,
  ) {
    if (verdicts === undefined) return;
    const offsets = verdicts.dataOffsets.flatMap(([first, step, count]) =>
      Array.from({ length: count }, (_, n) => first + n * step),
    );
    const chain = { length: offsets.length, dataOffsetBytes: Float64Array.from(offsets) };
    if (verdicts.start.segment >= chain.length) return;
    const walker = new LogWalker(pack, geometry, chain, verdicts.start, bestCrc32c());
    for (let left = verdicts.ksets; left > 0 && walker.next(); left--) {
      const { kset } = walker;
      for (let key = 0; key < kset.keyCount; key++) {
        if (kset.keyProblem(key, geometry, chain.length, Infinity) !== '') continue;
        const offset = offsets[kset.keySegment(key)] + kset.keySegmentOffsetBytes(key);
        this.crcs.set(placeKey(offset, kset.keyLengthBytes(key)), kset.keyDataCrc(key));
      }
    }
    for (const [offset, length, crc] of verdicts.bad) this.crcs.set(placeKey(offset, length), crc);
  }

  crcOf(offsetBytes: number, lengthBytes: number): number {
    const crc = this.crcs.get(placeKey(offsetBytes, lengthBytes));
    const { path } = this.pack;
    if (crc === undefined) {
      throw new PcacheError(
        'UNSUPPORTED',
        `${path}: a pack without payload, so none can be checked; ask for no payload`,
      );
    }
    if (crc === null) {
      const range = `bytes ${offsetBytes} to ${offsetBytes + lengthBytes}`;
      throw new PcacheError('IO', `${path}: ${range} could not be read when it was packed`);
    }
    return crc;
  }
}
