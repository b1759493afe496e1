/**
 * Small cache devices for simulations, with what a long life leaves behind: sequence numbers and generations
 * near their wrap, and data areas full of old key sets that are whole and good, at every multiple of 64
 * bytes, which is where a new kset of one key ends.
 */
import { bestCrc32c } from '../../src/engine/device/native.js';
import { formatDevice, planFormat } from '../../src/engine/create/create-cache.js';
import { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import {
  encodeCacheInfo,
  encodeGeneration,
  encodePosition,
  encodeSegmentInfo,
  type CacheMode,
} from '../../src/engine/media/codecs.js';
import { CRC_SEED, crc32cRaw } from '../../src/engine/media/crc32c.js';
import {
  CACHE_INFO_COPIES,
  DATA_OFFSET_IN_SEGMENT_BYTES,
  DIRTY_TAIL_COPIES,
  generationCopies,
  KEY_TAIL_COPIES,
  segmentDataOffsetBytes,
  segmentInfoCopies,
  segmentOffsetBytes,
  type Geometry,
} from '../../src/engine/media/geometry.js';
import {
  KEY_BYTES,
  KeyField,
  KSET_HEADER_BYTES,
  KSET_MAGIC_HIGH,
  KSET_MAGIC_LOW,
  KsetField,
} from '../../src/engine/media/kset.js';

export interface DeviceShape {
  readonly segmentBytes: number;
  readonly segments: number;
  readonly dataCrc: boolean;
  readonly gcPercent: number;
  readonly model: 'dax' | 'page-cache';
  /** Data areas full of old ksets. */
  readonly aged: boolean;
  /** Where in segment 0 the empty log starts: near the segment's end it hops soon. */
  readonly logStartBytes: number;
  /** Sequence number that every structure carries; its second copy is one behind. */
  readonly seq: number;
  /** Generation of all segments. */
  readonly generation: number;
  /** writeback when left out. */
  readonly mode?: CacheMode;
}

/** Smaller than `makeGeometry` allows, so that the log wraps within a hundred requests; one full kset must fit. */
export function geometryOf(shape: Pick<DeviceShape, 'segmentBytes'>): Geometry {
  const { segmentBytes } = shape;
  return { segmentBytes, segmentDataBytes: segmentBytes - DATA_OFFSET_IN_SEGMENT_BYTES };
}

/** 64 bytes: a good kset with one key, which claims sector 0 for whatever lies at the start of segment 0. */
function oldKset(generation: number): Uint8Array {
  const bytes = new Uint8Array(KSET_HEADER_BYTES + KEY_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(KsetField.keyCount, 1, true);
  view.setUint32(KsetField.magic, KSET_MAGIC_LOW, true);
  view.setUint32(KsetField.magic + 4, KSET_MAGIC_HIGH, true);
  view.setUint32(KSET_HEADER_BYTES + KeyField.length, 512, true);
  view.setUint32(KSET_HEADER_BYTES + KeyField.generation, generation % 2 ** 32, true);
  view.setUint32(KSET_HEADER_BYTES + KeyField.generation + 4, Math.floor(generation / 2 ** 32), true);
  view.setUint32(0, crc32cRaw(CRC_SEED, bytes, 4), true);
  return bytes;
}

const images = new Map<string, Uint8Array>();

function makeImage(shape: DeviceShape): Uint8Array {
  const geometry = geometryOf(shape);
  const pmem = new SimPmem(new Uint8Array(segmentOffsetBytes(geometry, shape.segments)), { model: 'dax' });
  if (shape.aged) {
    const old = oldKset(shape.generation);
    const area = new Uint8Array(geometry.segmentDataBytes - (geometry.segmentDataBytes % old.length));
    for (let at = 0; at < area.length; at += old.length) area.set(old, at);
    for (let s = 0; s < shape.segments; s++) pmem.write(segmentDataOffsetBytes(geometry, s), area, 0, area.length);
  }
  const { dataCrc, gcPercent, mode = 'writeback' } = shape;
  const plan = planFormat(pmem.sizeBytes, { dataCrc, gcPercent, mode, geometry });
  formatDevice(pmem, plan);
  age(pmem, shape, plan.cacheFlags);
  return pmem.bytes;
}

/** Rewrites every dual structure, both copies, as many updates would have left it. */
function age(pmem: SimPmem, shape: DeviceShape, flags: number): void {
  const geometry = geometryOf(shape);
  const put = (offset: number, bytes: Uint8Array) => pmem.write(offset, bytes, 0, bytes.length);
  const both = (copies: readonly [number, number], encode: (seq: number) => Uint8Array) => {
    put(copies[0], encode(shape.seq - 1));
    put(copies[1], encode(shape.seq));
  };
  const start = { segment: 0, offsetBytes: shape.logStartBytes };
  // A log that ends here would not have had an old kset lie across its end.
  pmem.zero(segmentDataOffsetBytes(geometry, 0), start.offsetBytes + KSET_HEADER_BYTES);
  both(CACHE_INFO_COPIES, (seq) => encodeCacheInfo({ firstSegmentId: 0, segmentCount: shape.segments, flags }, seq));
  both(KEY_TAIL_COPIES, (seq) => encodePosition(start, seq));
  both(DIRTY_TAIL_COPIES, (seq) => encodePosition(start, seq));
  for (let s = 0; s < shape.segments; s++) {
    const next = s + 1 < shape.segments ? s + 1 : undefined;
    both(segmentInfoCopies(geometry, s), (seq) => encodeSegmentInfo(next, seq));
    both(generationCopies(geometry, s), (seq) => encodeGeneration(shape.generation, seq));
  }
  pmem.persist();
}

/** A freshly made device. */
export function makeDevice(shape: DeviceShape): SimPmem {
  const key = JSON.stringify(shape);
  let image = images.get(key);
  if (!image) {
    if (images.size > 64) images.clear();
    images.set(key, (image = makeImage(shape)));
  }
  return new SimPmem(image.slice(), { model: shape.model, crc: bestCrc32c() });
}
