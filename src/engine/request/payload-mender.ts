/**
 * `verifyReads`: cached data that does not match its CRC is looked for on the backing device, and the copy in the cache
 * is put right in place.
 *
 * What the backing device holds is taken only when it matches the CRC in the key, so it is the data of that key, whether
 * the key is dirty or not; dirty data that only the cache had is never replaced by an older version. A store in place
 * needs no order: if a crash tears it, the payload still does not match its CRC. Parts of the payload that newer keys
 * cover may differ on the backing device; those are taken from the cache.
 */
import type { Core } from '../core.js';
import { PcacheError } from '../errors.js';
import { SECTOR_BYTES, SECTOR_SHIFT } from '../media/geometry.js';
import { CRC_SEED } from '../media/crc32c.js';
import type { EngineGroup } from './request-group.js';

/** Payloads that are mended at the same time, which bounds the memory for them; others wait. */
const MENDS_MAX = 4;

/** Part of a read that one index entry serves, hence one payload. Sectors are those of the segment's data area. */
export interface CheckedPart {
  readonly request: number;
  readonly segment: number;
  readonly startSector: number;
  readonly sectors: number;
  /** Offset of the part on the logical device. */
  readonly offsetBytes: number;
  readonly arenaOffsetBytes: number;
}

/** The payload that a part belongs to. */
export interface Payload {
  readonly startSector: number;
  readonly sectors: number;
  readonly crc: number;
}

interface Mend {
  readonly group: EngineGroup;
  readonly part: CheckedPart;
  readonly payload: Payload;
  readonly generation: number;
  /** What the request fails with when the data is not found. */
  readonly error: PcacheError;
}

export class PayloadMender {
  private readonly waiting: Mend[] = [];
  private underWay = 0;

  /** @param onPartDone called when a part that was given to `begin` has ended; with the error if it failed */
  constructor(
    private readonly core: Core,
    private readonly onPartDone: (group: EngineGroup, request: number, error: PcacheError | undefined) => void,
  ) {}

  /** Number of parts that have not ended. */
  get pending(): number {
    return this.underWay + this.waiting.length;
  }

  /** Looks for the data of a part of a read, which counts in `group.parts` until it has ended. */
  begin(group: EngineGroup, part: CheckedPart, payload: Payload, error: PcacheError): void {
    group.parts[part.request]++;
    const generation = this.core.segments.generation(part.segment);
    this.waiting.push({ group, part, payload, generation, error });
    this.next();
  }

  private next(): void {
    while (this.underWay < MENDS_MAX && this.waiting.length > 0) {
      this.underWay++;
      this.read(this.waiting.shift()!);
    }
  }

  private read(mend: Mend): void {
    const { backing, stats } = this.core;
    const { part, payload } = mend;
    const bytes = new Uint8Array(payload.sectors * SECTOR_BYTES);
    const offsetBytes = part.offsetBytes - (part.startSector - payload.startSector) * SECTOR_BYTES;
    stats.backingReads++;
    stats.backingReadBytes += bytes.length;
    backing.read(offsetBytes, bytes, 0, bytes.length, (failure) => {
      let error: PcacheError | undefined = mend.error;
      if (!failure && this.find(mend, bytes)) {
        error = undefined;
        this.takeOver(mend, bytes);
      } else {
        stats.readPayloadErrors++;
      }
      this.underWay--;
      this.onPartDone(mend.group, part.request, error);
      this.next();
    });
  }

  /** Whether the backing device had the data; if so, `bytes` are those of the payload. */
  private find({ part, payload, generation }: Mend, bytes: Uint8Array): boolean {
    const { core } = this;
    if (core.crc(CRC_SEED, bytes, 0, bytes.length) === payload.crc) return true;
    if (core.segments.generation(part.segment) !== generation) return false;
    const from = (part.startSector - payload.startSector) * SECTOR_BYTES;
    const wanted = bytes.slice(from, from + part.sectors * SECTOR_BYTES);
    try {
      core.pmem.read(this.offsetOf(part.segment, payload), bytes, 0, bytes.length);
    } catch (error) {
      if (error instanceof PcacheError) return false;
      throw error;
    }
    bytes.set(wanted, from);
    return core.crc(CRC_SEED, bytes, 0, bytes.length) === payload.crc;
  }

  /** Gives the request its data, and puts the payload right if it is still there. */
  private takeOver({ group, part, payload, generation }: Mend, bytes: Uint8Array): void {
    const { core } = this;
    const from = (part.startSector - payload.startSector) * SECTOR_BYTES;
    group.arena.memory.set(bytes.subarray(from, from + part.sectors * SECTOR_BYTES), part.arenaOffsetBytes);
    core.stats.readPayloadsMended++;
    if (core.failure || core.segments.generation(part.segment) !== generation) return;
    try {
      core.pmem.write(this.offsetOf(part.segment, payload), bytes, 0, bytes.length);
      core.pmem.fence();
    } catch (error) {
      if (!(error instanceof PcacheError)) throw error; // a place that cannot be written stays as it is
    }
  }

  private offsetOf(segment: number, payload: Payload): number {
    return this.core.segments.dataOffsetBytes[segment] + (payload.startSector << SECTOR_SHIFT);
  }
}
