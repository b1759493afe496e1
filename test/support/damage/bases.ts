/** The sound caches that damagers work on, loaded once per test file. */
import { KERNEL_GEOMETRY, MIB } from '../../../src/engine/media/geometry.js';
import { unpackImage } from '../images.js';
import { SparseImage } from '../sparse-image.js';
import { makeHopping, type BaseName } from './damagers.js';
import { Overlay, type OverlayBase } from './overlay.js';

export const BACKING_BYTES: Record<BaseName, number> = {
  'fresh': 64 * MIB,
  'dirty-crc': 64 * MIB,
  'hopping': 64 * MIB,
  'gc-wrap': 96 * MIB,
};
export const BASE_NAMES = Object.keys(BACKING_BYTES) as BaseName[];

export interface Base {
  readonly device: Overlay;
  readonly backing: OverlayBase;
}

export async function loadBases(): Promise<Map<BaseName, Base>> {
  const bases = new Map<BaseName, Base>();
  for (const name of BASE_NAMES) {
    const { cachePath, backingPath } = await unpackImage(name === 'hopping' ? 'dirty-crc' : name);
    const image = SparseImage.fromFile(cachePath);
    if (name === 'hopping') makeHopping(image);
    bases.set(name, { device: new Overlay(image), backing: SparseImage.fromFile(backingPath) });
  }
  return bases;
}

export const shapeOf = (name: BaseName, backingBytes = BACKING_BYTES[name]) => ({
  geometry: KERNEL_GEOMETRY,
  backingBytes,
});
