/** What a cache of each size would hit under one policy: a simulation of all sizes side by side, block by block. */
import { BlockTable } from './block-table.js';
import { LRU_BLOCK_BYTES, shareOf, type HitShares, type RequestCounter } from './lru-curve.js';
import { makeBlockCache, type BlockCache, type PolicyName } from './policies.js';

export interface PolicyPoint {
  readonly cacheBytes: number;
  /** Hit shares of reads, as dm-pcache counts them. */
  readonly reads: HitShares;
  /** Hit shares of reads and writes together. */
  readonly all: HitShares;
  /** References to a block that was missing, of reads and writes. */
  readonly missedReferences: number;
}

export interface PolicyCurve {
  readonly policy: PolicyName;
  readonly blockBytes: number;
  /** Different blocks that were touched. */
  readonly uniqueBlocks: number;
  /** Touches of a block; a request of several blocks has as many. */
  readonly references: number;
  readonly points: readonly PolicyPoint[];
}

/** Requests of one kind and their bytes, and how much of both each size hits. */
class Tally {
  requests = 0;
  bytes = 0;
  readonly requestHits: Float64Array;
  readonly byteHits: Float64Array;

  constructor(sizes: number) {
    this.requestHits = new Float64Array(sizes);
    this.byteHits = new Float64Array(sizes);
  }
}

export class PolicyCounter implements RequestCounter {
  private readonly table = new BlockTable();
  private readonly caches: readonly BlockCache[];
  private readonly reads: Tally;
  private readonly writes: Tally;
  private readonly missed: Float64Array;
  /** Whether all blocks of the request have hit so far, by size. */
  private readonly whole: Uint8Array;
  private references = 0;

  /** @param sizesBytes rising multiples of 4 KiB */
  constructor(
    private readonly policy: PolicyName,
    private readonly sizesBytes: readonly number[],
  ) {
    this.caches = sizesBytes.map((bytes) => makeBlockCache(policy, Math.floor(bytes / LRU_BLOCK_BYTES)));
    this.reads = new Tally(sizesBytes.length);
    this.writes = new Tally(sizesBytes.length);
    this.missed = new Float64Array(sizesBytes.length);
    this.whole = new Uint8Array(sizesBytes.length);
  }

  request(isRead: boolean, offset: number, end: number): void {
    const { caches, whole, missed } = this;
    const tally = isRead ? this.reads : this.writes;
    whole.fill(1);
    let at = offset;
    for (let block = Math.floor(offset / LRU_BLOCK_BYTES); at < end; block++) {
      const blockEnd = Math.min(end, (block + 1) * LRU_BLOCK_BYTES);
      const rank = this.rankOf(block);
      for (let i = 0; i < caches.length; i++) {
        if (caches[i].touch(rank)) tally.byteHits[i] += blockEnd - at;
        else {
          whole[i] = 0;
          missed[i]++;
        }
      }
      at = blockEnd;
      this.references++;
    }
    for (let i = 0; i < caches.length; i++) tally.requestHits[i] += whole[i];
    tally.requests++;
    tally.bytes += end - offset;
  }

  private rankOf(block: number): number {
    const { table } = this;
    const bucket = table.find(block);
    if (bucket >= 0) return table.valueAt(bucket);
    const rank = table.size;
    table.add(block, rank);
    return rank;
  }

  curve(): PolicyCurve {
    const { policy, table, references, sizesBytes, reads, writes, missed } = this;
    const points = sizesBytes.map((cacheBytes, i) => ({
      cacheBytes,
      reads: {
        byRequests: shareOf(reads.requestHits[i], reads.requests),
        byBytes: shareOf(reads.byteHits[i], reads.bytes),
      },
      all: {
        byRequests: shareOf(reads.requestHits[i] + writes.requestHits[i], reads.requests + writes.requests),
        byBytes: shareOf(reads.byteHits[i] + writes.byteHits[i], reads.bytes + writes.bytes),
      },
      missedReferences: missed[i],
    }));
    return { policy, blockBytes: LRU_BLOCK_BYTES, uniqueBlocks: table.size, references, points };
  }
}
