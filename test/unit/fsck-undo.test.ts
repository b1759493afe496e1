/**
 * The undo file: written ahead of every change, refused for anything but the device it is of, and good for a repair
 * that was cut off at any moment.
 */
import { copyFileSync, existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { PcacheError } from '../../src/engine/errors.js';
import { KERNEL_GEOMETRY, MIB } from '../../src/engine/media/geometry.js';
import { nothingLost } from '../../src/fsck/repair/losses.js';
import { chooseUndoPath } from '../../src/fsck/repair/repair-device.js';
import { repairCache } from '../../src/fsck/repair/repair.js';
import { UndoFile, undoStateOf, UndoWriter } from '../../src/fsck/repair/undo-file.js';
import { temporaryFolder } from '../support/cli-images.js';
import { deviceOffset, flip, ksetsOf } from '../support/damage/edit.js';
import { Overlay } from '../support/damage/overlay.js';
import { unpackImage } from '../support/images.js';
import { SparseImage } from '../support/sparse-image.js';

const folder = temporaryFolder('undo');
const shape = { geometry: KERNEL_GEOMETRY, backingBytes: 64 * MIB };
let base: Overlay;

beforeAll(async () => {
  base = new Overlay(SparseImage.fromFile((await unpackImage('dirty-crc')).cachePath));
});

/** Superblock, both tails, a segment info, and a kset. */
function damaged(): Overlay {
  const device = base.clone();
  device.zero(deviceOffset(ksetsOf(device).places[4]), 512);
  flip(device, 4096 + 20);
  device.zero(16384, 64);
  return device;
}

let files = 0;
const newPath = (): string => join(folder, `undo-${files++}`);

function repair(device: Overlay, undo: UndoWriter): ReturnType<typeof repairCache> {
  return repairCache({ ...shape, device, undo, data: true, relinkDoubtful: false, ask: () => 'yes' });
}

async function repairedWithUndo(): Promise<{ before: Overlay; device: Overlay; path: string }> {
  const device = damaged();
  const before = device.clone();
  const path = newPath();
  const undo = new UndoWriter(path);
  const result = await repair(device, undo);
  undo.close();
  expect(result.after.clean).toBe(true);
  expect(device.differences(before).length).toBeGreaterThan(2);
  return { before, device, path };
}

const refusal = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(PcacheError);
    return (error as PcacheError).message;
  }
  return 'not refused';
};

describe('taking a repair back', () => {
  it('gives the bytes from before, and says that the repair had come to its end', async () => {
    const { before, device, path } = await repairedWithUndo();
    expect(undoStateOf(path)).toBe('finished');
    expect(UndoFile.read(path).apply(device).finished).toBe(true);
    expect(device.differences(before)).toEqual([]);
    // Once more does no harm.
    UndoFile.read(path).apply(device);
    expect(device.differences(before)).toEqual([]);
  });

  it('leaves no file when there is nothing to repair', async () => {
    const path = newPath();
    const undo = new UndoWriter(path);
    await repair(base.clone(), undo);
    undo.finish();
    undo.close();
    expect([undo.isUsed, existsSync(path)]).toEqual([false, false]);
  });

  it('is possible wherever the repair was cut off, in the middle of a change too', async () => {
    const whole = damaged();
    let writes = 0;
    const count = whole.write.bind(whole);
    whole.write = (...args) => {
      writes++;
      count(...args);
    };
    const first = new UndoWriter(newPath());
    expect(nothingLost((await repair(whole, first)).losses)).toBe(false);
    first.close();
    expect(writes).toBeGreaterThan(5);
    for (let cut = 0; cut < writes; cut++) {
      const device = damaged();
      const before = device.clone();
      const path = newPath();
      const undo = new UndoWriter(path);
      let left = cut;
      const write = device.write.bind(device);
      device.write = (offset, source, from = 0, length = source.length) => {
        if (left-- > 0) return write(offset, source, from, length);
        write(offset, source, from, Math.floor(length / 2));
        throw new PcacheError('IO', 'cut off as asked');
      };
      await expect(repair(device, undo)).rejects.toThrow('cut off as asked');
      undo.close();
      device.write = write;
      expect(undoStateOf(path)).toMatch(/^unfinished/);
      const halfway = device.clone();
      expect(UndoFile.read(path).apply(device).finished).toBe(false);
      expect(device.differences(before)).toEqual([]);

      // The same repair again goes on from there, with an undo file of its own; both together lead back.
      const again = chooseUndoPath(path, path);
      expect(again.path).toBe(`${path}.2`);
      expect(again.notes[0]).toContain('its repair was cut off');
      const second = new UndoWriter(again.path);
      const { after, losses } = await repair(halfway, second);
      expect(after.clean).toBe(true);
      // What the first one would have listed is told of in one way or the other.
      expect([again.losing.length > 0, !nothingLost(losses)], `cut before store ${cut}`).toContain(true);
      const { isUsed } = second;
      second.close();
      if (isUsed) UndoFile.read(again.path).apply(halfway);
      UndoFile.read(path).apply(halfway);
      expect(halfway.differences(before)).toEqual([]);
    }
  });

  it('starts over with a file whose repair was cut off before it changed anything', () => {
    for (const bytes of [0, 7, 100]) {
      const path = newPath();
      const whole = Buffer.concat([Buffer.from('PCACHE-UNDO\n\0\0\0\0', 'latin1'), Buffer.alloc(200)]);
      writeFileSync(path, whole.subarray(0, bytes));
      expect(undoStateOf(path)).toBe('incomplete');
      const chosen = chooseUndoPath(path, path);
      expect([chosen.path, chosen.notes.length, existsSync(path)]).toEqual([path, 1, false]);
    }
    const other = newPath();
    writeFileSync(other, 'mine');
    expect(() => chooseUndoPath(other, other)).toThrow(/exists already, and is not overwritten/);
    expect(readFileSync(other, 'utf8')).toBe('mine');
  });

  it('was prepared before every change: what is changed is in the file by then', async () => {
    const device = damaged();
    const path = newPath();
    const undo = new UndoWriter(path);
    const before = device.clone();
    const write = device.write.bind(device);
    device.write = (...args) => {
      // From what the file holds at this moment the device can be taken back.
      const copy = `${path}.now`;
      copyFileSync(path, copy);
      const probe = device.clone();
      UndoFile.read(copy).apply(probe);
      expect(probe.differences(before)).toEqual([]);
      write(...args);
      const after = device.clone();
      UndoFile.read(copy).apply(after);
      expect(after.differences(before)).toEqual([]);
    };
    await repair(device, undo);
    undo.close();
  });
});

it('takes changes back in the reverse of their order, where one place was changed twice', () => {
  const device = base.clone();
  const before = device.clone();
  const path = newPath();
  const undo = new UndoWriter(path);
  for (const value of [1, 2, 3]) {
    const bytes = new Uint8Array(100).fill(value);
    undo.record(device, [{ offsetBytes: 8192 + value, bytes }], false);
    device.write(8192 + value, bytes);
  }
  undo.finish();
  undo.close();
  UndoFile.read(path).apply(device);
  expect(device.differences(before)).toEqual([]);
});

describe('an undo file is refused', () => {
  it('when it is there already', async () => {
    const path = newPath();
    writeFileSync(path, 'something');
    const undo = new UndoWriter(path);
    const device = damaged();
    const before = device.clone();
    await expect(repair(device, undo)).rejects.toThrow(/exists already, and is not overwritten/);
    expect(readFileSync(path, 'utf8')).toBe('something');
    expect(device.differences(before)).toEqual([]);
  });

  it('when it cannot be written: nothing is changed then', async () => {
    const device = damaged();
    const before = device.clone();
    await expect(repair(device, new UndoWriter(join(folder, 'no', 'such', 'folder')))).rejects.toThrow(/no such file/);
    expect(device.differences(before)).toEqual([]);
  });

  it('for a device of another size', async () => {
    const { device, path } = await repairedWithUndo();
    const larger = device.clone(device.sizeBytes + 4096);
    expect(refusal(() => UndoFile.read(path).apply(larger))).toMatch(/is for a device of 536870912 bytes/);
  });

  it('for another device, or one that was used since', async () => {
    const { device, path } = await repairedWithUndo();
    const used = device.clone();
    flip(used, 8192 + 4);
    const before = used.clone();
    expect(refusal(() => UndoFile.read(path).apply(used))).toMatch(
      /another device than overlay, or that was used since/,
    );
    expect(used.differences(before)).toEqual([]);
    expect(refusal(() => UndoFile.read(path).apply(base.clone()))).toBe('not refused');
  });

  it('when it is cut, at any length', async () => {
    const { path } = await repairedWithUndo();
    const whole = readFileSync(path);
    for (const length of [0, 1, 100, 127, 128, 140, 200, whole.length - 1]) {
      const cut = newPath();
      copyFileSync(path, cut);
      truncateSync(cut, length);
      expect(
        refusal(() => UndoFile.read(cut)),
        `${length} bytes`,
      ).toMatch(/is cut|is not an undo file/);
    }
  });

  it('when a byte of it was changed, wherever it is', async () => {
    const { path } = await repairedWithUndo();
    const whole = readFileSync(path);
    for (let at = 0; at < whole.length; at += at < 400 ? 1 : 97) {
      const bytes = Buffer.from(whole);
      bytes[at] ^= 0x10;
      const changed = newPath();
      writeFileSync(changed, bytes);
      expect(
        refusal(() => UndoFile.read(changed)),
        `byte ${at}`,
      ).toMatch(/damaged|is cut|is not an undo file|version/);
    }
  });

  it('when it is none', () => {
    expect(refusal(() => UndoFile.read(join(folder, 'missing')))).toMatch(/no such file/);
    const path = newPath();
    writeFileSync(path, 'x'.repeat(1000));
    expect(refusal(() => UndoFile.read(path))).toMatch(/is not an undo file of pcache/);
  });
});
