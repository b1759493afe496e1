/**
 * The check of payload takes many CRCs at a time: that says what taking them one by one would, whoever takes them, and
 * a medium that fails under one of them says nothing of the others.
 */
import { chmodSync, copyFileSync, mkdtempSync, openSync, closeSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openPmemReader } from '../../src/engine/device/open.js';
import type { CrcRanges, PmemReader } from '../../src/engine/device/pmem.js';
import { PcacheError } from '../../src/engine/errors.js';
import { KERNEL_GEOMETRY, MIB } from '../../src/engine/media/geometry.js';
import { KEY_BYTES, KSET_HEADER_BYTES, KSET_KEYS_MAX, ksetBytes, sealKset } from '../../src/engine/media/kset.js';
import { checkCache, type CheckResult } from '../../src/fsck/check.js';
import { deviceOffset, flip, ksetAt, ksetImage, ksetsOf, writeKset } from '../support/damage/edit.js';
import { unpackImage } from '../support/images.js';
import { SparseImage } from '../support/sparse-image.js';

const check = (reader: PmemReader, threads = 1): CheckResult =>
  checkCache(reader, { geometry: KERNEL_GEOMETRY, backingBytes: 64 * MIB, data: true, threads });

/** Where on the device the payload of a key is. */
function payloadAt(image: SparseImage, kset: number, index: number): number {
  const view = ksetAt(image, ksetsOf(image).places[kset]);
  return deviceOffset({ segment: view.keySegment(index), offsetBytes: view.keySegmentOffsetBytes(index) });
}

let cachePath: string;
let dirty: SparseImage;
let folder: string;
beforeAll(async () => {
  ({ cachePath } = await unpackImage('dirty-crc'));
  dirty = SparseImage.fromFile(cachePath);
  folder = mkdtempSync(join(tmpdir(), 'pcache-fsck-payload-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The image with what is under `reads` failing, and many CRCs at a time if `many`. */
class FailingReader implements PmemReader {
  readonly path = 'failing';
  readonly sizeBytes: number;
  calls = 0;

  constructor(
    private readonly image: SparseImage,
    private readonly badAt: number,
    private readonly code: 'IO' | 'CLOSED',
  ) {
    this.sizeBytes = image.sizeBytes;
  }

  read(...args: Parameters<PmemReader['read']>): void {
    this.image.read(...args);
  }

  crc32c(offsetBytes: number, lengthBytes: number, seed: number): number {
    const isBad = this.badAt >= offsetBytes && this.badAt < offsetBytes + lengthBytes;
    if (isBad) throw new PcacheError(this.code, `byte ${this.badAt}`);
    return this.image.crc32c(offsetBytes, lengthBytes, seed);
  }

  beginCrcs({ offsetBytes, lengthBytes, crc }: CrcRanges, count: number, seed: number): () => void {
    this.calls++;
    return () => {
      // As with several threads: some are done, some are not.
      crc.fill(0, 0, count);
      for (let at = count - 1; at >= 0; at--) crc[at] = this.crc32c(offsetBytes[at], lengthBytes[at], seed);
    };
  }

  close(): void {}
}

describe('payload', () => {
  it.each([1, 2, 7])('is checked alike by %i threads of the helper and one by one', (threads) => {
    const image = dirty.clone();
    const damaged = [payloadAt(dirty, 0, 3), payloadAt(dirty, 4, 0), payloadAt(dirty, 8, 5)];
    const path = join(folder, `cache-${threads}`);
    copyFileSync(cachePath, path);
    chmodSync(path, 0o600);
    const fd = openSync(path, 'r+');
    for (const at of damaged) {
      flip(image, at);
      writeSync(fd, image.bytes(at, 1), 0, 1, at);
    }
    closeSync(fd);
    const mapped = openPmemReader(path);
    expect('beginCrcs' in mapped).toBe(true);
    const [expected, result] = [check(image), check(mapped, threads)];
    mapped.close();
    expect(result).toEqual(expected);
    expect(result.findings.map(({ code }) => code)).toEqual(damaged.map(() => 'PAYLOAD_CRC_CURRENT'));
    expect(result.examined.payloadKeys).toBe(result.examined.keys);
  });

  it('that cannot be read is told, and all the rest is checked', () => {
    const image = dirty.clone();
    flip(image, payloadAt(dirty, 0, 3));
    const bad = new FailingReader(image, payloadAt(dirty, 4, 7) + 100, 'IO');
    const { findings, examined } = check(bad);
    expect(bad.calls).toBe(1);
    expect(findings.map(({ code }) => code)).toEqual(['PAYLOAD_CRC_CURRENT', 'PAYLOAD_UNREADABLE']);
    expect(examined.payloadKeys).toBe(examined.keys - 1);
  });

  it('on a device that fails otherwise is an error', () => {
    const closed = new FailingReader(dirty, payloadAt(dirty, 4, 7), 'CLOSED');
    expect(() => check(closed)).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  });

  it('of more keys than are taken at a time is all checked', () => {
    const image = dirty.clone();
    const [first] = ksetsOf(dirty).places;
    const key = ksetImage(dirty, first).subarray(KSET_HEADER_BYTES, KSET_HEADER_BYTES + KEY_BYTES);
    const kset = new Uint8Array(ksetBytes(KSET_KEYS_MAX));
    for (let index = 0; index < KSET_KEYS_MAX; index++) kset.set(key, KSET_HEADER_BYTES + index * KEY_BYTES);
    sealKset(kset, KSET_KEYS_MAX);
    let place = first;
    for (let n = 0; n < 70; n++) place = writeKset(image, place, kset);
    expect(check(image).examined.payloadKeys).toBe(70 * KSET_KEYS_MAX);
    flip(image, payloadAt(dirty, 0, 0));
    const { findings, omitted } = check(image);
    const told = findings.filter(({ code }) => code === 'PAYLOAD_CRC_CURRENT').length;
    expect(told + (omitted.PAYLOAD_CRC_CURRENT ?? 0)).toBe(70 * KSET_KEYS_MAX);
  });
});
