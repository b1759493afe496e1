/**
 * Makes an image or device of a packed cache again. With payload it is byte for byte what was packed; without,
 * what is absent becomes zeroes, but for the page after one with contents: there ones stand for what is absent,
 * since zeroes could be taken for the end of the log.
 */
import { closeSync, fsyncSync, ftruncateSync } from 'node:fs';
import { openDeviceFile } from '../engine/device/device-file.js';
import { UNREADABLE_BYTE } from '../engine/device/tolerant-reader.js';
import { sameDevice } from '../engine/device/lock.js';
import { fromSystemError, PcacheError } from '../engine/errors.js';
import { PackFile } from '../engine/pack/pack-file.js';
import { FrameKind, PACK_ABSENT_BYTE, PACK_CHUNK_BYTES, PACK_PAGE_BYTES } from '../engine/pack/pack-format.js';
import { appendRange, type ByteRange } from '../engine/media/byte-range.js';
import { SEGMENTS_OFFSET_BYTES } from '../engine/media/geometry.js';
import { isZero } from './redact.js';
import { NewFile, statusOf, writeAll } from './target.js';

export interface UnpackTotals {
  readonly deviceBytes: number;
  readonly hasPayload: boolean;
  /** What could not be read when the cache was packed; bytes of 0xff stand for it. */
  readonly unreadable: readonly ByteRange[];
}

const IMAGE_MODE = 0o600;
const ZEROES = Buffer.alloc(PACK_CHUNK_BYTES);

/**
 * Yields the bytes of the device done so far, and its size.
 * @throws PcacheError for a pack that is damaged (nothing is left of a new file then, and a device does not
 * attach), and for a target that must not be overwritten
 */
export function* unpackSteps(
  packPath: string,
  targetPath: string,
  force: boolean,
): Generator<{ readonly done: number; readonly total: number }, UnpackTotals> {
  if (sameDevice(packPath, targetPath)) {
    throw new PcacheError('USAGE', `${targetPath}: is the pack itself; give another file or device`);
  }
  const file = new PackFile(packPath);
  try {
    const { deviceBytes, hasPayload } = file.header;
    const unreadable: ByteRange[] = [];
    for (const { frame } of file.frames())
      if (frame.kind === FrameKind.unreadable)
        appendRange(unreadable, { offsetBytes: frame.offsetBytes, lengthBytes: frame.rawBytes });
    const isDevice = statusOf(targetPath)?.isBlockDevice() === true;
    const steps = isDevice ? toDevice(file, targetPath, force) : toFile(file, targetPath, force);
    for (const done of steps) yield { done, total: deviceBytes };
    return { deviceBytes, hasPayload, unreadable };
  } finally {
    file.close();
  }
}

function* toFile(file: PackFile, path: string, force: boolean): Generator<number> {
  const status = statusOf(path);
  // A file that is in use is not taken away from its user.
  if (force && status?.isFile() === true && status.size > 0) closeSync(openDeviceFile(path, { writable: true }).fd);
  const target = new NewFile(path, force, IMAGE_MODE);
  try {
    try {
      ftruncateSync(target.fd, file.header.deviceBytes);
    } catch (error) {
      throw fromSystemError(error, path, `making it ${file.header.deviceBytes} bytes long`);
    }
    for (const { offsetBytes, bytes, doneBytes } of pieces(file)) {
      if (bytes !== undefined) {
        for (const [from, to] of contents(bytes)) {
          writeAll(target.fd, path, bytes.subarray(from, to), offsetBytes + from);
        }
      }
      yield doneBytes;
    }
    target.finish();
  } finally {
    target.close();
  }
}

/** What lies before the segments is written last, so that what is left of an interrupted run does not attach. */
function* toDevice(file: PackFile, path: string, force: boolean): Generator<number> {
  if (!force) throw new PcacheError('USAGE', `${path}: is a device; give --force to overwrite it`);
  const { fd, sizeBytes } = openDeviceFile(path, { writable: true });
  try {
    const { deviceBytes } = file.header;
    if (sizeBytes < deviceBytes) {
      throw new PcacheError('TOO_SMALL', `${path}: has ${sizeBytes} bytes; what is packed takes ${deviceBytes}`);
    }
    const head = Buffer.alloc(SEGMENTS_OFFSET_BYTES);
    writeAll(fd, path, head, 0);
    let written = SEGMENTS_OFFSET_BYTES;
    for (const { offsetBytes, bytes, doneBytes } of pieces(file)) {
      if (bytes !== undefined) {
        if (offsetBytes < head.length) bytes.copy(head, offsetBytes, 0, head.length - offsetBytes);
        const from = Math.max(offsetBytes, head.length);
        yield* zeroes(fd, path, written, from);
        if (from < offsetBytes + bytes.length) writeAll(fd, path, bytes.subarray(from - offsetBytes), from);
        written = Math.max(written, offsetBytes + bytes.length);
      }
      yield doneBytes;
    }
    yield* zeroes(fd, path, written, deviceBytes);
    sync(fd, path);
    writeAll(fd, path, head, 0);
    sync(fd, path);
  } finally {
    closeSync(fd);
  }
}

function* zeroes(fd: number, path: string, from: number, to: number): Generator<number> {
  for (let at = from; at < to; at += ZEROES.length) {
    writeAll(fd, path, ZEROES.subarray(0, Math.min(ZEROES.length, to - at)), at);
    yield at;
  }
}

function sync(fd: number, path: string): void {
  try {
    fsyncSync(fd);
  } catch (error) {
    throw fromSystemError(error, path, 'making it durable');
  }
}

/** Runs of pages that are not zero: what is left out stays a hole. */
function contents(bytes: Buffer): [number, number][] {
  const runs: [number, number][] = [];
  for (let from = 0; from < bytes.length; from += PACK_PAGE_BYTES) {
    const to = Math.min(from + PACK_PAGE_BYTES, bytes.length);
    if (isZero(bytes.subarray(from, to))) continue;
    const last = runs.at(-1);
    if (last?.[1] === from) last[1] = to;
    else runs.push([from, to]);
  }
  return runs;
}

interface Piece {
  readonly offsetBytes: number;
  /** What is to be written there; undefined for zeroes. */
  readonly bytes?: Buffer;
  readonly doneBytes: number;
}

/** Everything that is not zero, in order. */
function* pieces(file: PackFile): Generator<Piece> {
  const { hasPayload } = file.header;
  let afterContents = false;
  for (const { frame, atBytes } of file.frames()) {
    const { kind, offsetBytes, rawBytes } = frame;
    if (kind === FrameKind.verdicts) continue;
    const doneBytes = offsetBytes + rawBytes;
    if (kind === FrameKind.data) {
      const bytes = Buffer.from(file.unpack(frame, atBytes));
      if (!hasPayload) afterContents = blankAbsent(bytes, afterContents);
      yield { offsetBytes, bytes, doneBytes };
      continue;
    }
    if (kind === FrameKind.unreadable) {
      yield* unreadableFrame(offsetBytes, rawBytes);
    } else if (kind === FrameKind.absent && afterContents) {
      yield { offsetBytes, bytes: absentPage(Math.min(PACK_PAGE_BYTES, rawBytes)), doneBytes };
    } else {
      yield { offsetBytes, doneBytes };
    }
    afterContents = false;
  }
}

/** No structure is good with such bytes, so that what could not be read is not taken for what was never written. */
function* unreadableFrame(offsetBytes: number, rawBytes: number): Generator<Piece> {
  for (let done = 0; done < rawBytes; done += PACK_CHUNK_BYTES) {
    const bytes = Buffer.alloc(Math.min(PACK_CHUNK_BYTES, rawBytes - done), UNREADABLE_BYTE);
    yield { offsetBytes: offsetBytes + done, bytes, doneBytes: offsetBytes + done + bytes.length };
  }
}

function absentPage(lengthBytes: number): Buffer {
  return Buffer.alloc(lengthBytes, PACK_ABSENT_BYTE);
}

const ABSENT_PAGE = absentPage(PACK_PAGE_BYTES);

/**
 * Makes zeroes of the absent pages that do not follow one with contents.
 * @param afterContents whether the first page does
 * @returns whether the last page has contents
 */
function blankAbsent(bytes: Buffer, afterContents: boolean): boolean {
  let after = afterContents;
  for (let at = 0; at < bytes.length; at += PACK_PAGE_BYTES) {
    const page = bytes.subarray(at, Math.min(at + PACK_PAGE_BYTES, bytes.length));
    const isAbsent = page.compare(ABSENT_PAGE, 0, page.length) === 0;
    if (isAbsent && !after) page.fill(0);
    after = !isAbsent && !isZero(page);
  }
  return after;
}
