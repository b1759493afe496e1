/**
 * A small cache on simulated devices for tests of single behaviours: requests by sector, contents by stamp,
 * and the model to say what is legal.
 */
import { expect } from 'vitest';
import { bestCrc32c } from '../../src/engine/device/native.js';
import { SECTOR_BYTES, SUBTREE_SECTORS } from '../../src/engine/media/geometry.js';
import { loadCacheOrThrow, type LoadedCache } from '../../src/engine/log/recovery.js';
import { Op, RequestFlag, RequestGroup, RequestState } from '../../src/engine/request/request-group.js';
import { SimBacking } from '../../src/engine/sim/sim-backing.js';
import { SimClock } from '../../src/engine/sim/sim-clock.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { geometryOf, makeDevice, type DeviceShape } from './sim-device.js';
import { readStamp, stamp, wordsOf } from './stamps.js';
import { InspectedCache } from './inspected-cache.js';

export interface SmallShape extends DeviceShape {
  readonly slots: number;
  readonly sectors: number;
  readonly verifyReads?: boolean;
  /** Holes are made in the backing device. */
  readonly punches?: boolean;
}

export const SMALL: SmallShape = {
  segmentBytes: 20 * 1024,
  segments: 10,
  dataCrc: false,
  gcPercent: 70,
  model: 'dax',
  aged: true,
  logStartBytes: 0,
  seq: 1,
  generation: 0,
  slots: 1,
  sectors: 2 * SUBTREE_SECTORS,
};

/** A request of a group; without an id it is a read. */
export interface GroupPart {
  readonly sector: number;
  readonly sectors: number;
  readonly id?: number;
  readonly flags?: number;
}

const TURNS_MAX = 20_000;
const WORDS_PER_SECTOR = SECTOR_BYTES / 4;

/** Stamps a row of sectors, from word `at` on. */
function stampSectors(words: Int32Array, at: number, sector: number, sectors: number, id: number): void {
  for (let n = 0; n < sectors; n++) stamp(words, at + n * WORDS_PER_SECTOR, sector + n, id);
}

/** One request and its memory. */
export class Request {
  readonly group: RequestGroup;
  readonly words: Int32Array;

  constructor(
    pmem: SimPmem,
    readonly sector: number,
    readonly sectors: number,
  ) {
    const memory = new Uint8Array(Math.max(1, sectors) * SECTOR_BYTES);
    this.words = wordsOf(memory);
    this.group = new RequestGroup(1, pmem.registerArena(memory));
  }

  get isPending(): boolean {
    return this.group.state[0] === RequestState.pending;
  }
  get isDone(): boolean {
    return this.group.state[0] === RequestState.done;
  }
  /** Code of the error it failed with; undefined while it has not failed. */
  get errorCode(): string | undefined {
    return this.group.errors[0]?.code;
  }
  /** Ids of the versions that a read returned. */
  get ids(): number[] {
    return Array.from({ length: this.sectors }, (_, n) => readStamp(this.words, n * WORDS_PER_SECTOR, this.sector + n));
  }
}

export class SmallCache {
  readonly shape: SmallShape;
  readonly pmem: SimPmem;
  readonly backing: SimBacking;
  readonly clock = new SimClock();
  cache: InspectedCache;

  constructor(shape: Partial<SmallShape> = {}, pmem?: SimPmem) {
    this.shape = { ...SMALL, ...shape };
    this.pmem = pmem ?? makeDevice(this.shape);
    this.backing = new SimBacking({
      sizeBytes: this.shape.sectors * SECTOR_BYTES,
      initial: (sector, target, at) => stamp(wordsOf(target), at >>> 2, sector, 0),
      tagOf: (sector, bytes, at) => readStamp(wordsOf(bytes), at >>> 2, sector),
    });
    this.cache = this.open();
  }

  /** Opens the cache on the devices as they are. */
  open(slots = this.shape.slots): InspectedCache {
    const { pmem, backing, clock } = this;
    const { verifyReads = false, punches = false } = this.shape;
    const geometry = geometryOf(this.shape);
    this.cache = new InspectedCache({ pmem, backing, clock, geometry, slots, verifyReads, punches, crc: bestCrc32c() });
    return this.cache;
  }

  /** What a reader of the device finds now. */
  load(device: SimPmem = this.pmem): LoadedCache {
    return loadCacheOrThrow(device, {
      geometry: geometryOf(this.shape),
      backingBytes: this.backing.sizeBytes,
      checkPayload: true,
    });
  }

  write(sector: number, sectors: number, id: number, flags = 0): Request {
    const request = new Request(this.pmem, sector, sectors);
    stampSectors(request.words, 0, sector, sectors, id);
    request.group.add(Op.write, sector * SECTOR_BYTES, sectors * SECTOR_BYTES, 0, flags);
    this.cache.submit(request.group);
    return request;
  }

  writeFua(sector: number, sectors: number, id: number): Request {
    return this.write(sector, sectors, id, RequestFlag.fua);
  }

  read(sector: number, sectors: number): Request {
    const request = new Request(this.pmem, sector, sectors);
    request.group.add(Op.read, sector * SECTOR_BYTES, sectors * SECTOR_BYTES, 0);
    this.cache.submit(request.group);
    return request;
  }

  /** Several at once: writes, and reads where there is no id. */
  group(...requests: readonly GroupPart[]): RequestGroup {
    const sectors = requests.reduce((sum, request) => sum + request.sectors, 0);
    const memory = new Uint8Array(sectors * SECTOR_BYTES);
    const group = new RequestGroup(requests.length, this.pmem.registerArena(memory));
    let at = 0;
    for (const { sector, sectors, id, flags = 0 } of requests) {
      if (id !== undefined) stampSectors(wordsOf(memory), at / 4, sector, sectors, id);
      group.add(id === undefined ? Op.read : Op.write, sector * SECTOR_BYTES, sectors * SECTOR_BYTES, at, flags);
      at += sectors * SECTOR_BYTES;
    }
    this.cache.submit(group);
    return group;
  }

  /** TRIM or WRITE_ZEROES. */
  zero(sector: number, sectors: number, op: number = Op.zero, flags = 0): Request {
    const request = new Request(this.pmem, sector, 1);
    request.group.add(op, sector * SECTOR_BYTES, sectors * SECTOR_BYTES, 0, flags);
    this.cache.submit(request.group);
    return request;
  }

  flush(): Request {
    const request = new Request(this.pmem, 0, 0);
    request.group.add(Op.flush, 0, 0, 0);
    this.cache.submit(request.group);
    return request;
  }

  /** Steps until there is nothing to do without the backing device or the clock. */
  step(): void {
    for (let n = 0; this.cache.step(); n++) expect(n).toBeLessThan(TURNS_MAX);
  }

  /** Ends everything at the backing device and steps, until nothing is left; the clock does not move. */
  settle(): void {
    this.step();
    for (let n = 0; this.backing.underWay > 0; n++) {
      expect(n).toBeLessThan(TURNS_MAX);
      this.backing.finish(0);
      this.step();
    }
  }

  /** Writes everything back. */
  drain(): void {
    this.cache.requestClose();
    this.cache.hurryWriteback = true;
    this.settle();
    this.cache.hurryWriteback = false;
    expect(this.cache.isClean).toBe(true);
  }

  /** The versions that the backing device holds for certain. */
  durableIds(sector: number, sectors: number): number[] {
    return Array.from({ length: sectors }, (_, n) => this.backing.durableVersion(sector + n)?.tag ?? 0);
  }

  /** Reads, answers the backing device where it must, and returns the ids. */
  readIds(sector: number, sectors: number): number[] {
    const request = this.read(sector, sectors);
    while (request.isPending && this.backing.underWay > 0) this.backing.finish(0);
    expect(request.isDone).toBe(true);
    return request.ids;
  }

  /** Entries of the index, placeholders only. */
  placeholders(): number {
    const { index } = this.cache.parts;
    let found = 0;
    for (let subtree = index.nextUsedSubtree(0); subtree >= 0; subtree = index.nextUsedSubtree(subtree + 1)) {
      for (index.seek(subtree, 0); index.valid; index.advance()) if (index.isEmpty) found++;
    }
    return found;
  }
}
