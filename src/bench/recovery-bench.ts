/**
 * `pcache bench recovery`: how fast an attach brings the log into memory, beside how fast the index alone
 * takes the same keys.
 */
import { bestCrc32c, indexAid } from '../engine/device/native.js';
import type { PmemReader } from '../engine/device/pmem.js';
import { ExtentIndex } from '../engine/index/extent-index.js';
import { loadCacheOrThrow } from '../engine/index.js';
import { KERNEL_GEOMETRY, SECTOR_BYTES, SUBTREE_BYTES } from '../engine/media/geometry.js';
import { LogWalker } from '../engine/media/log-walker.js';
import { readMetadata, type CacheMetadata } from '../engine/media/metadata.js';
import { medianOf, spreadOf, type Spread } from './spread.js';

export interface RecoveryBenchResult {
  readonly keys: number;
  readonly ksets: number;
  readonly rounds: number;
  readonly checksPayload: boolean;
  /** Keys a second from the device into memory. */
  readonly keysPerSecond: number;
  /** Keys a second that the index alone takes, in the log's order. */
  readonly insertsPerSecond: number;
  readonly ratio: Spread;
  readonly index: { readonly entries: number; readonly memoryBytes: number };
}

/** The keys of a log as columns: what an insertion takes. */
class Keys {
  count = 0;
  readonly subtree: Uint32Array;
  readonly start: Uint16Array;
  readonly sectors: Uint16Array;
  readonly segment: Uint32Array;
  readonly offsetSectors: Uint16Array;

  constructor(capacity: number) {
    this.subtree = new Uint32Array(capacity);
    this.start = new Uint16Array(capacity);
    this.sectors = new Uint16Array(capacity);
    this.segment = new Uint32Array(capacity);
    this.offsetSectors = new Uint16Array(capacity);
  }
}

/** @param rounds of each; they alternate. */
export async function benchRecovery(
  pmem: PmemReader,
  backingBytes: number,
  rounds: number,
  checkPayload: boolean,
  onRound: (round: number) => Promise<void>,
): Promise<RecoveryBenchResult> {
  const metadata = readMetadata(pmem, KERNEL_GEOMETRY);
  const first = load(pmem, backingBytes, checkPayload); // also warms up
  const keys = readKeys(pmem, metadata, first.keyCount);
  const generations = new Int32Array(metadata.chain.length);
  const loadNs: number[] = [];
  const insertNs: number[] = [];
  let entries = 0;
  let memoryBytes = 0;
  for (let round = 0; round < rounds; round++) {
    loadNs.push(
      timed(() => {
        const { index } = load(pmem, backingBytes, checkPayload);
        entries = index.entryCount;
        memoryBytes = index.memoryBytes;
      }),
    );
    insertNs.push(timed(() => insertAll(keys, new ExtentIndex(backingBytes, generations, indexAid()))));
    await onRound(round + 1);
  }
  return {
    keys: keys.count,
    ksets: first.ksetCount,
    rounds,
    checksPayload: checkPayload,
    keysPerSecond: (keys.count * 1e9) / medianOf(loadNs),
    insertsPerSecond: (keys.count * 1e9) / medianOf(insertNs),
    ratio: spreadOf(loadNs.map((ns, round) => insertNs[round] / ns)),
    index: { entries, memoryBytes },
  };
}

function load(pmem: PmemReader, backingBytes: number, checkPayload: boolean) {
  return loadCacheOrThrow(pmem, { geometry: KERNEL_GEOMETRY, backingBytes, checkPayload, crc: bestCrc32c() });
}

function timed(body: () => void): number {
  const started = performance.now();
  body();
  return (performance.now() - started) * 1e6;
}

function readKeys(pmem: PmemReader, metadata: CacheMetadata, capacity: number): Keys {
  const keys = new Keys(capacity);
  const walker = new LogWalker(pmem, KERNEL_GEOMETRY, metadata.chain, metadata.keyTail.value!, bestCrc32c());
  while (walker.next()) {
    const { kset } = walker;
    for (let i = 0; i < kset.keyCount; i++) {
      const n = keys.count++;
      const offset = kset.keyOffsetBytes(i);
      keys.subtree[n] = Math.floor(offset / SUBTREE_BYTES);
      keys.start[n] = (offset % SUBTREE_BYTES) / SECTOR_BYTES;
      keys.sectors[n] = kset.keyLengthBytes(i) / SECTOR_BYTES;
      keys.segment[n] = kset.keySegment(i);
      keys.offsetSectors[n] = kset.keySegmentOffsetBytes(i) / SECTOR_BYTES;
    }
  }
  return keys;
}

function insertAll(keys: Keys, index: ExtentIndex): void {
  for (let n = 0; n < keys.count; n++) {
    index.insert(keys.subtree[n], keys.start[n], keys.sectors[n], keys.segment[n], keys.offsetSectors[n], 0, 0);
  }
}
