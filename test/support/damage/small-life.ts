/**
 * A small cache that the engine wrote: a life of random requests, from a seed, that ends at some moment with data
 * that is not written back. Small segments, so that the log has gone through several of them and segments have been
 * freed and used again. Contents are stamps, so nothing reads the same by chance.
 */
import { Cache } from '../../../src/engine/cache.js';
import type { BackingDevice, BackingDone } from '../../../src/engine/device/backing.js';
import { bestCrc32c } from '../../../src/engine/device/native.js';
import { SECTOR_BYTES, SUBTREE_SECTORS } from '../../../src/engine/media/geometry.js';
import { Op, RequestFlag, RequestGroup } from '../../../src/engine/request/request-group.js';
import { Random } from '../../../src/engine/sim/random.js';
import { SimClock } from '../../../src/engine/sim/sim-clock.js';
import { geometryOf, makeDevice } from '../sim-device.js';
import { stamp, wordsOf } from '../stamps.js';
import { makeSubject, type Subject } from './oracle.js';
import { Overlay, type OverlayBase } from './overlay.js';

const KIB = 1024;
/** Added to the seed of a life for that of another. */
const OTHER_SEED = 500_000_000;
const SECTORS_MAX = 24;
const WORDS_PER_SECTOR = SECTOR_BYTES / 4;
/** Turns of write-back after a request, at most: more than enough for a cache of this size. */
const TURNS_MAX = 10_000;

class LifeBacking implements BackingDevice, OverlayBase {
  readonly path = 'backing';
  readonly bytes: Uint8Array;
  readonly sizeBytes: number;
  private readonly queue: (() => void)[] = [];

  constructor(sectors: number) {
    this.sizeBytes = sectors * SECTOR_BYTES;
    this.bytes = new Uint8Array(this.sizeBytes);
    const words = wordsOf(this.bytes);
    for (let sector = 0; sector < sectors; sector++) stamp(words, sector * WORDS_PER_SECTOR, sector, 0);
  }

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number, done?: BackingDone): void {
    target.set(this.bytes.subarray(offsetBytes, offsetBytes + lengthBytes), targetOffset);
    if (done !== undefined) this.queue.push(() => done(null));
  }

  write(offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number, done: BackingDone): void {
    this.bytes.set(source.subarray(sourceOffset, sourceOffset + lengthBytes), offsetBytes);
    this.queue.push(() => done(null));
  }

  flush(done: BackingDone): void {
    this.queue.push(() => done(null));
  }

  close(): void {
    this.queue.length = 0;
  }

  /** Answers the oldest call. @returns false when there is none */
  answer(): boolean {
    const next = this.queue.shift();
    next?.();
    return next !== undefined;
  }
}

/** The cache of seed `seed`. @param like another cache's segments; this one has fewer */
export function liveSmall(seed: number, like?: { segmentBytes: number; segments: number }): Subject {
  const random = new Random(seed);
  const segments = like === undefined ? random.between(6, 14) : random.between(3, like.segments - 1);
  const shape = {
    segmentBytes: like?.segmentBytes ?? random.pick([20, 32, 48]) * KIB,
    segments,
    dataCrc: random.chance(0.7),
    gcPercent: random.pick([20, 50, 70]),
    model: 'dax',
    aged: random.chance(0.3),
    logStartBytes: 0,
    seq: random.pick([1, 255]),
    generation: random.pick([0, 3]),
  } as const;
  const geometry = geometryOf(shape);
  const pmem = makeDevice(shape);
  const backing = new LifeBacking(random.pick([600, SUBTREE_SECTORS + 600]));
  const clock = new SimClock();
  const cache = new Cache({ pmem, backing, clock, geometry, slots: random.between(1, 2), crc: bestCrc32c() });
  let earlier: Uint8Array | undefined;
  live(cache, backing, random, pmem, () => (earlier = pmem.bytes.slice()));
  const device = new Overlay(new FlatBase(pmem.bytes.slice()));
  const name = `life ${seed}${shape.dataCrc ? ' with data_crc' : ''}`;
  const shapeOfIt = { geometry, backingBytes: backing.sizeBytes };
  const subject = makeSubject(name, device, backing, shapeOfIt, earlier && new FlatBase(earlier));
  let other: OverlayBase | undefined;
  return { ...subject, makeOther: () => (other ??= liveSmall(seed + OTHER_SEED, shape).device) };
}

type ArenaMaker = { registerArena(memory: Uint8Array): RequestGroup['arena'] };

/** @param snapshot called once, somewhere in the life */
function live(cache: Cache, backing: LifeBacking, random: Random, pmem: ArenaMaker, snapshot: () => void): void {
  const memory = new Uint8Array(SECTORS_MAX * SECTOR_BYTES);
  const words = wordsOf(memory);
  const group = new RequestGroup(1, pmem.registerArena(memory));
  const sectors = backing.sizeBytes / SECTOR_BYTES;
  /** How eagerly the backing device answers between requests. */
  const eagerness = random.pick([0.05, 0.3, 0.8]);
  const turn = (): boolean => {
    const stepped = cache.step();
    return backing.answer() || stepped;
  };
  const requests = random.between(20, 400);
  const snapshotAt = 1 + (requests >>> 1);
  for (let id = 1; id <= requests; id++) {
    if (id === snapshotAt) snapshot();
    const length = random.between(1, SECTORS_MAX);
    const first = random.below(sectors - length);
    const kind = random.below(20);
    group.clear();
    if (kind < 2) group.add(Op.flush, 0, 0, 0);
    else if (kind < 5) group.add(Op.read, first * SECTOR_BYTES, length * SECTOR_BYTES, 0);
    else {
      for (let n = 0; n < length; n++) stamp(words, n * WORDS_PER_SECTOR, first + n, id);
      group.add(Op.write, first * SECTOR_BYTES, length * SECTOR_BYTES, 0, kind < 8 ? RequestFlag.fua : 0);
    }
    cache.submit(group);
    for (let turns = 0; group.pending > 0; turns++) {
      if (!turn() && turns > TURNS_MAX) throw new Error('a request does not end');
    }
    while (random.chance(eagerness)) turn();
  }
  group.clear();
  group.add(Op.flush, 0, 0, 0);
  cache.submit(group);
  for (let turns = 0; group.pending > 0; turns++) {
    if (!turn() && turns > TURNS_MAX) throw new Error('the last flush does not end');
  }
}

/** Bytes in memory as what an overlay lies over. */
export class FlatBase implements OverlayBase {
  readonly sizeBytes: number;

  constructor(private readonly bytes: Uint8Array) {
    this.sizeBytes = bytes.length;
  }

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    target.set(this.bytes.subarray(offsetBytes, offsetBytes + lengthBytes), targetOffset);
  }
}
