/**
 * What a device may hold: one id per sector, the write that it came from. Knows of a workload which of its
 * requests had ended when the side that did them was killed, and from that which contents are legal: of every
 * sector its last durable write or any later one that was submitted, whole sectors each.
 */
import { NOT_A_STAMP, readStamp, stamp, wordsOf } from '../support/stamps.js';
import { KernelOp, writes, type Request } from './requests.js';

const SECTOR_BYTES = 512;
const SECTOR_WORDS = SECTOR_BYTES / 4;
const MAX_TOLD = 10;

/** The whole contents of a device: sector n as `ids[n]` says. */
export function contentsOf(ids: Int32Array): Uint8Array {
  const words = new Int32Array(ids.length * SECTOR_WORDS);
  ids.forEach((id, sector) => stamp(words, sector * SECTOR_WORDS, sector, id));
  return new Uint8Array(words.buffer);
}

/** The id of every sector; NOT_A_STAMP where the contents are nobody's. */
export function idsOf(contents: Uint8Array): Int32Array {
  const words = wordsOf(contents);
  return Int32Array.from({ length: contents.length / SECTOR_BYTES }, (_, sector) =>
    readStamp(words, sector * SECTOR_WORDS, sector),
  );
}

/** Ids as the engine's and the guest's programs read them: 32 bits each. */
export function bytesOfIds(ids: Int32Array): Uint8Array {
  return new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength);
}

/** What a device that held `base` holds after all of `requests`. */
export function afterAll(base: Int32Array, requests: Iterable<Request>): Int32Array {
  const ids = base.slice();
  for (const one of requests) if (writes(one)) ids.fill(one.id, one.sector, one.sector + one.sectors);
  return ids;
}

/** Differences between two contents, for people; at most a few are told. Empty when there are none. */
export function differences(found: Int32Array, wanted: Int32Array): string[] {
  const told: string[] = [];
  let count = 0;
  for (let sector = 0; sector < Math.max(found.length, wanted.length); sector++) {
    if (found[sector] === wanted[sector]) continue;
    if (count++ < MAX_TOLD) told.push(`sector ${sector}: ${nameOf(found[sector])}, not ${wanted[sector]}`);
  }
  return count > MAX_TOLD ? [...told, `and ${count - MAX_TOLD} more sectors`] : told;
}

function nameOf(id: number | undefined): string {
  return id === NOT_A_STAMP ? 'nobody’s contents' : String(id);
}

export interface CrashVerdict {
  /** Sectors with illegal contents, for people; at most a few are told. */
  readonly wrong: readonly string[];
  readonly requestsEnded: number;
  /** Sectors that a durable write had made, or one after it. */
  readonly durableSectors: number;
  /** Sectors that lost an acknowledged write that was not durable yet, which is legal. */
  readonly lostSectors: number;
}

interface Bounds {
  /** Per sector the least id it may have. */
  readonly floor: Int32Array;
  /** Per sector the last acknowledged id. */
  readonly acknowledged: Int32Array;
  /** Which requests were submitted. */
  readonly submitted: Uint8Array;
  readonly ended: number;
}

/**
 * @param acked per thread how many of its requests had ended for certain
 * @param inFlight how many more of a thread's may have been under way
 */
function boundsOf(base: Int32Array, requests: readonly Request[], acked: readonly number[], inFlight: number): Bounds {
  const floor = base.slice();
  const acknowledged = base.slice();
  const submitted = new Uint8Array(requests.length);
  const done = acked.map(() => 0);
  const loose: Request[][] = acked.map(() => []);
  let ended = 0;
  const raise = (ids: Int32Array, one: Request) => {
    for (let s = one.sector; s < one.sector + one.sectors; s++) ids[s] = Math.max(ids[s], one.id);
  };
  requests.forEach((one, n) => {
    const nth = done[one.thread]++;
    if (nth >= acked[one.thread] + inFlight) return;
    submitted[n] = 1;
    if (nth >= acked[one.thread]) return;
    ended++;
    if (writes(one)) {
      raise(acknowledged, one);
      if (one.op === KernelOp.fua) raise(floor, one);
      else loose[one.thread].push(one);
    } else if (one.op === KernelOp.flush) {
      for (const earlier of loose[one.thread].splice(0)) raise(floor, earlier);
    }
  });
  return { floor, acknowledged, submitted, ended };
}

/**
 * Judges what was found after a crash. `requests` have consecutive ids.
 * @param acked as far as the killed side told, per thread; each had up to `inFlight` more under way
 */
export function judgeCrash(
  base: Int32Array,
  requests: readonly Request[],
  acked: readonly number[],
  inFlight: number,
  found: Int32Array,
): CrashVerdict {
  const { floor, acknowledged, submitted, ended } = boundsOf(base, requests, acked, inFlight);
  const firstId = requests[0].id;
  const wrong: string[] = [];
  let wrongSectors = 0;
  let durableSectors = 0;
  let lostSectors = 0;
  for (let sector = 0; sector < base.length; sector++) {
    const id = found[sector];
    const least = floor[sector];
    const one = requests[id - firstId] as Request | undefined;
    const later =
      one !== undefined &&
      submitted[id - firstId] === 1 &&
      id > least &&
      writes(one) &&
      sector >= one.sector &&
      sector < one.sector + one.sectors;
    if (id !== least && !later && wrongSectors++ < MAX_TOLD) {
      wrong.push(
        `sector ${sector}: ${nameOf(id)}; durable ${least}, acknowledged ${acknowledged[sector]}, before ${base[sector]}`,
      );
    }
    if (least !== base[sector]) durableSectors++;
    if (id < acknowledged[sector]) lostSectors++;
  }
  if (wrongSectors > MAX_TOLD) wrong.push(`and ${wrongSectors - MAX_TOLD} more sectors`);
  return { wrong, requestsEnded: ended, durableSectors, lostSectors };
}

/** The acknowledgements file: one 32-bit word per thread. What was never written is 0. */
export function decodeAcks(bytes: Uint8Array | undefined, threads: number): number[] {
  const view = bytes === undefined ? undefined : new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: threads }, (_, t) =>
    view !== undefined && view.byteLength >= t * 4 + 4 ? view.getUint32(t * 4, true) : 0,
  );
}
