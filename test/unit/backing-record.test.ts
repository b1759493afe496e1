/** The record of the backing device: its copies on the cache device, what identifies a device, and which samples count. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { keepBackingRecord, readBackingRecord } from '../../src/engine/copies/backing-record.js';
import { identityOf } from '../../src/engine/device/backing-identity.js';
import {
  BACKING_RECORD_BYTES,
  BACKING_RECORD_COPIES,
  decodeBackingRecord,
  encodeBackingRecord,
  IDENTITY_BYTES_MAX,
  RECORD_SAMPLES_MAX,
  type BackingRecord,
} from '../../src/engine/media/backing-record.js';
import { SEGMENTS_OFFSET_BYTES } from '../../src/engine/media/geometry.js';
import { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { findSignatures } from '../../src/engine/create/foreign-signatures.js';
import { otherDevice, RECORD_SAMPLE_BYTES, sampleOffsets } from '../../src/rescue/recorded-backing.js';
import { temporaryFolder } from '../support/cli-images.js';
import { crashStatesOf } from '../support/crash-states.js';

const GIB = 2 ** 30;
const recordOf = (backingBytes: number): BackingRecord => ({
  backingBytes,
  identity: { kind: 'WWID', text: 'naa.5000c500a1b2c3d4' },
  state: 0xfedcba98,
  digests: sampleOffsets(backingBytes).map((offset, n) =>
    n % 7 === 3 ? undefined : (offset / 4096 + 0xf0000000) >>> 0,
  ),
});
const blank = (): SimPmem => new SimPmem(new Uint8Array(SEGMENTS_OFFSET_BYTES), { model: 'dax' });

describe('the record on the cache device', () => {
  it('reads as it was written', () => {
    for (const record of [
      recordOf(10 * GIB),
      { backingBytes: 512, identity: undefined, state: 0, digests: [] },
      {
        backingBytes: 2 ** 50,
        identity: { kind: 'device-mapper UUID', text: 'x'.repeat(IDENTITY_BYTES_MAX) },
        state: 1,
        digests: Array.from({ length: RECORD_SAMPLES_MAX }, (_, n) => n),
      },
    ] as const) {
      expect(decodeBackingRecord(encodeBackingRecord(record, 300))).toMatchObject({ ...record, crcOk: true, seq: 44 });
    }
  });

  it('is none with another version, another magic, or a byte that changed', () => {
    const bytes = encodeBackingRecord(recordOf(GIB), 1);
    for (const at of [5, 8, BACKING_RECORD_BYTES - 1]) {
      const changed = bytes.slice();
      changed[at] ^= 1;
      expect(decodeBackingRecord(changed).crcOk).toBe(false);
    }
    expect(readBackingRecord(blank()).value).toBeUndefined();
  });

  it('is the old or the new one at every point of a crash', () => {
    const pmem = blank();
    for (let n = 1; n <= 3; n++) {
      const states = crashStatesOf(pmem, { beforeStore: 20, beforeBarrier: 100 }, (device) =>
        keepBackingRecord(device, recordOf(n * GIB)),
      );
      const seen = states.map((bytes) => readBackingRecord(new SimPmem(bytes, { model: 'dax' })).value?.backingBytes);
      expect(new Set(seen)).toEqual(new Set([n === 1 ? undefined : (n - 1) * GIB, n * GIB]));
    }
    const { offsets, copies } = readBackingRecord(pmem);
    expect([offsets, copies.map(({ backingBytes }) => backingBytes / GIB).sort()]).toEqual([
      BACKING_RECORD_COPIES,
      [2, 3],
    ]);
  });

  it('is not taken for another format, and is told to be small enough for its page', () => {
    const pmem = blank();
    keepBackingRecord(pmem, recordOf(GIB));
    keepBackingRecord(pmem, recordOf(GIB));
    expect(findSignatures(pmem)).toEqual([]);
  });
});

describe('the samples of a device', () => {
  it.each([0, 512, 4096, 100 * 4096, GIB, 2 ** 50])(
    'lie inside %i bytes, in order, and fit into the record',
    (size) => {
      const offsets = sampleOffsets(size);
      expect(offsets).toEqual([...new Set(offsets)].sort((a, b) => a - b));
      expect(offsets.length).toBeLessThanOrEqual(RECORD_SAMPLES_MAX);
      for (const offset of offsets) expect(offset + RECORD_SAMPLE_BYTES).toBeLessThanOrEqual(size);
      if (size >= GIB) expect(offsets.at(-1)).toBe(size - RECORD_SAMPLE_BYTES);
    },
  );
});

describe('the identity of a block device', () => {
  const roots = { sys: temporaryFolder('identity-sys'), udev: temporaryFolder('identity-udev') };
  const put = (path: string, text: string): void => {
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, `${text}\n`);
  };
  const sys = (number: string, name: string, text: string): void =>
    put(join(roots.sys, 'dev/block', number, name), text);
  const udev = (number: string, text: string): void => put(join(roots.udev, `b${number}`), text);

  it('is the WWID of a disk, the UUID of a partition, a logical volume or an array', () => {
    sys('8:0', 'device/wwid', 'naa.5000c500a1b2c3d4');
    sys('259:0', 'wwid', 'eui.0025385b71b00001');
    sys('254:0', 'serial', 'disk-1');
    sys('8:1', 'partition', '1');
    udev('8:1', 'E:ID_PART_ENTRY_UUID=0b1f-2\nE:ID_FS_UUID=other');
    sys('252:0', 'dm/uuid', 'LVM-abcDEF');
    sys('9:0', 'size', '1');
    udev('9:0', 'E:MD_UUID=1:2:3:4');
    const found = ['8:0', '259:0', '254:0', '8:1', '252:0', '9:0'].map((number) => identityOf(number, roots));
    expect(found).toEqual([
      { kind: 'WWID', text: 'naa.5000c500a1b2c3d4' },
      { kind: 'WWID', text: 'eui.0025385b71b00001' },
      { kind: 'WWID', text: 'disk-1' },
      { kind: 'partition UUID', text: '0b1f-2' },
      { kind: 'device-mapper UUID', text: 'LVM-abcDEF' },
      { kind: 'MD UUID', text: '1:2:3:4' },
    ]);
  });

  it('leaves out what may change: the name of a LUKS mapping, and the UUID of any other mapping', () => {
    const luks = `CRYPT-LUKS2-${'0123456789abcdef'.repeat(2)}`;
    sys('252:1', 'dm/uuid', `${luks}-home`);
    sys('252:2', 'dm/uuid', 'mine');
    sys('8:2', 'partition', '2');
    sys('7:0', 'size', '1');
    const found = ['252:1', '252:2', '8:2', '7:0'].map((number) => identityOf(number, roots)?.text);
    expect(found).toEqual([luks, undefined, undefined, undefined]);
  });

  it('is compared only with one of its kind', () => {
    const record = recordOf(GIB);
    expect(otherDevice(record, GIB, record.identity)).toBeUndefined();
    expect(otherDevice(record, GIB, undefined)).toBeUndefined();
    expect(otherDevice(record, GIB, { kind: 'MD UUID', text: '1:2' })).toBeUndefined();
    expect(otherDevice(record, GIB, { kind: 'WWID', text: 'naa.1' })).toBe(
      'its WWID is naa.1, not naa.5000c500a1b2c3d4',
    );
    expect(otherDevice(record, 2 * GIB, record.identity)).toBe('has 2147483648 bytes, not 1073741824');
  });
});
