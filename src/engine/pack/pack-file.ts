/** Reads the file of a packed cache frame by frame (`pack-format.ts`). Every frame is checked before it is used. */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { builtin } from '../../layout/builtin.js';
import { bestCrc32c } from '../device/native.js';
import { fromSystemError, PcacheError } from '../errors.js';
import { CRC_SEED } from '../media/crc32c.js';
import {
  damagedPack,
  decodePackFrame,
  decodePackHeader,
  FrameKind,
  isPack,
  PACK_FRAME_BYTES,
  PACK_HEADER_BYTES,
  truncatedPack,
  type PackFrame,
  type PackHeader,
} from './pack-format.js';

/** Is the regular file at `path` a packed cache? False also where it cannot be looked at. */
export function isPackFile(path: string): boolean {
  try {
    // Looked at before it is opened: opening a FIFO would wait for its other end.
    if (!statSync(path).isFile()) return false;
    const fd = openSync(path, 'r');
    try {
      const bytes = new Uint8Array(PACK_HEADER_BYTES);
      return isPack(bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, 0)));
    } finally {
      closeSync(fd);
    }
  } catch {
    return false;
  }
}

export class PackFile {
  readonly header: PackHeader;
  readonly sizeBytes: number;
  private readonly fd: number;
  private readonly crc = bestCrc32c();
  private open = true;

  /** @throws PcacheError for what cannot be opened, or is no pack that can be read */
  constructor(readonly path: string) {
    try {
      // Looked at before it is opened: opening a FIFO would wait for its other end.
      const isFile = statSync(path).isFile();
      if (!isFile)
        throw new PcacheError('NOT_A_DEVICE', `${path}: not a regular file; give one that "pcache pack" wrote`);
      this.fd = openSync(path, 'r');
    } catch (error) {
      throw fromSystemError(error, path, 'opening it');
    }
    try {
      this.sizeBytes = fstatSync(this.fd).size;
      if (!isPack(this.bytes(0, Math.min(PACK_HEADER_BYTES, this.sizeBytes)))) {
        throw new PcacheError('NOT_PCACHE', `${path}: not a packed cache; give a file that "pcache pack" wrote`);
      }
      this.header = decodePackHeader(path, this.bytes(0, PACK_HEADER_BYTES));
    } catch (error) {
      closeSync(this.fd);
      throw fromSystemError(error, path, 'reading it');
    }
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    closeSync(this.fd);
  }

  /** All frames in order, END left out, each with the byte of the file where its packed bytes begin. */
  *frames(): Generator<{ readonly frame: PackFrame; readonly atBytes: number }> {
    let expectedBytes = 0;
    for (let at = PACK_HEADER_BYTES; ;) {
      const frame = decodePackFrame(this.path, this.bytes(at, PACK_FRAME_BYTES), this.header, expectedBytes, at);
      at += PACK_FRAME_BYTES;
      if (frame.kind === FrameKind.end) return;
      if (at + frame.packedBytes > this.sizeBytes) throw truncatedPack(this.path, this.sizeBytes);
      yield { frame, atBytes: at };
      at += frame.packedBytes;
      if (frame.kind !== FrameKind.verdicts) expectedBytes += frame.rawBytes;
    }
  }

  /** The bytes that a frame stands for. */
  unpack({ packedBytes, rawBytes, crc, kind, offsetBytes }: PackFrame, atBytes: number): Uint8Array {
    const packed = this.bytes(atBytes, packedBytes);
    if (this.crc(CRC_SEED, packed, 0, packedBytes) !== crc) {
      throw damagedPack(this.path, `the CRC of what is packed at byte ${atBytes} is wrong`);
    }
    const { brotliDecompressSync } = builtin('node:zlib');
    try {
      const raw = brotliDecompressSync(packed, { maxOutputLength: rawBytes });
      if (raw.length === rawBytes) return raw;
    } catch {
      // Told below.
    }
    const what = kind === FrameKind.verdicts ? 'verdicts' : `bytes ${offsetBytes} to ${offsetBytes + rawBytes}`;
    throw damagedPack(this.path, `the ${what} cannot be unpacked`);
  }

  private bytes(atBytes: number, lengthBytes: number): Uint8Array {
    const bytes = new Uint8Array(lengthBytes);
    let got: number;
    try {
      got = lengthBytes === 0 ? 0 : readSync(this.fd, bytes, 0, lengthBytes, atBytes);
    } catch (error) {
      throw fromSystemError(error, this.path, `reading bytes ${atBytes} to ${atBytes + lengthBytes}`);
    }
    if (got < lengthBytes) throw truncatedPack(this.path, this.sizeBytes);
    return bytes;
  }
}
