/** The logical device and the keys as inspection reads them, on caches that the kernel made. */
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { liveEntries, LogKeys, type KeyRow } from '../../src/engine/inspect/keys.js';
import { LogicalReader } from '../../src/engine/inspect/logical-reader.js';
import { loadForInspection, openForInspection, type InspectedDevices } from '../../src/engine/inspect/open.js';
import { summarise } from '../../src/engine/inspect/summary.js';
import { MIB, SUBTREE_BYTES } from '../../src/engine/media/geometry.js';
import { describeImages, unpackImage } from '../support/images.js';

describeImages('inspection of', (image) => {
  let devices: InspectedDevices;
  let reader: LogicalReader;
  beforeAll(async () => {
    const { cachePath, backingPath } = await unpackImage(image);
    devices = openForInspection({ cachePath, backingPath, native: false });
    reader = new LogicalReader(devices.pmem, loadForInspection(devices), devices.backing);
  });
  afterAll(() => devices.close());

  it('reads the bytes that the kernel read', () => {
    const hash = createHash('sha256');
    // Pieces that are no multiple of anything.
    const buffer = new Uint8Array(3 * MIB + 77);
    for (let at = 0; at < reader.sizeBytes; at += buffer.length) {
      const length = Math.min(buffer.length, reader.sizeBytes - at);
      reader.read(at, buffer, 0, length);
      hash.update(buffer.subarray(0, length));
    }
    expect(hash.digest('hex')).toBe(image.logicalSha256);
  });

  it('reads any part as it reads the whole', () => {
    const whole = new Uint8Array(2 * SUBTREE_BYTES);
    reader.read(0, whole, 0, whole.length);
    for (const [offset, length] of [
      [0, 1],
      [511, 2],
      [SUBTREE_BYTES - 1, 2],
      [SUBTREE_BYTES - 513, 1025],
      [1234567, 654321],
      [whole.length - 1, 1],
      [77, 0],
    ]) {
      const part = new Uint8Array(length + 2).fill(0xee);
      reader.read(offset, part, 1, length);
      expect(Buffer.compare(part.subarray(1, length + 1), whole.subarray(offset, offset + length))).toBe(0);
      expect([part[0], part[length + 1]]).toEqual([0xee, 0xee]);
    }
  });

  it('refuses what lies beyond the logical device', () => {
    const beyond = /logical device ends at byte/;
    expect(() => reader.read(reader.sizeBytes, new Uint8Array(1), 0, 1)).toThrow(beyond);
    expect(() => reader.checkReadable(reader.sizeBytes - 1, 2)).toThrow(beyond);
    reader.checkReadable(reader.sizeBytes, 0);
  });

  it('lists as many keys as the log holds, and what counts of them without overlaps', () => {
    const cache = loadForInspection(devices);
    const keys = new LogKeys(devices.pmem, cache.metadata, devices.backing!.sizeBytes);
    const states = new Map<string, number>();
    let count = 0;
    for (; keys.next(); count++) states.set(keys.row.state, (states.get(keys.row.state) ?? 0) + 1);
    expect(keys.problem).toBeUndefined();
    expect(count).toBe(cache.keyCount);
    let end = 0;
    let entries = 0;
    for (const entry of liveEntries(cache)) {
      if (entry.offsetBytes < end) expect(entry.offsetBytes).toBeGreaterThanOrEqual(end);
      end = entry.offsetBytes + entry.lengthBytes;
      entries++;
    }
    expect(entries).toBe(cache.index.entryCount);
    // Everything is dirty where dirty_tail has not moved.
    const atStart = cache.dirtyTail.offsetBytes === cache.keyTail.offsetBytes;
    expect(states.has('written-back')).toBe(!atStart && count > 0);
  });

  it('gives the status line that the kernel gives, but for dirty_tail, which moves on', () => {
    const summary = summarise(devices);
    const fields = image.statusLine.split(' ').slice(3);
    const ours = summary.status!.split(' ');
    expect([...ours.slice(0, 7), ours[8]]).toEqual([...fields.slice(0, 7), fields[8]]);
    const content = summary.content!;
    expect(content.dirtyBytes + content.cleanBytes).toBeLessThanOrEqual(content.liveBytes);
    expect(summary.dataCrc).toBe(image.dataCrc);
  });
});

describe('without the backing device', () => {
  let devices: InspectedDevices;
  let rows: KeyRow[];
  let reader: LogicalReader;
  beforeAll(async () => {
    const { cachePath } = await unpackImage('dirty-crc');
    devices = openForInspection({ cachePath, backingPath: undefined, native: false });
    const cache = loadForInspection(devices);
    rows = Array.from(liveEntries(cache), (row) => ({ ...row }));
    reader = new LogicalReader(devices.pmem, cache, undefined);
  });
  afterAll(() => devices.close());

  it('what is in the cache can be read', () => {
    const { offsetBytes, lengthBytes } = rows[7];
    reader.checkReadable(offsetBytes, lengthBytes);
    reader.read(offsetBytes, new Uint8Array(lengthBytes), 0, lengthBytes);
  });

  it('a hole is refused before anything is read, and named whole', () => {
    const holeEnd = rows[0].offsetBytes;
    expect(holeEnd).toBeGreaterThan(0);
    const message = `bytes 0 to ${holeEnd} are not in the cache; give the backing device too`;
    expect(() => reader.checkReadable(0, holeEnd + 1)).toThrow(message);
    const at = rows.findIndex((row, i) => i > 0 && rows[i - 1].offsetBytes + rows[i - 1].lengthBytes < row.offsetBytes);
    const { offsetBytes, lengthBytes } = rows[at - 1];
    const inside = `bytes ${offsetBytes + lengthBytes} to ${rows[at].offsetBytes} are not in the cache`;
    expect(() => reader.checkReadable(offsetBytes, rows[at].offsetBytes + 1 - offsetBytes)).toThrow(inside);
    expect(() => reader.read(0, new Uint8Array(512), 0, 512)).toThrow(/are not in the cache/);
  });

  it('the same device twice is refused', async () => {
    const { cachePath } = await unpackImage('dirty-crc');
    expect(() => openForInspection({ cachePath, backingPath: cachePath, native: false })).toThrow(
      /is the cache device itself/,
    );
  });
});
