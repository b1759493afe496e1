/** The LRU curve by the stack distance of every reference: exact, in memory that grows with the blocks touched. */
import { DistanceHistogram } from './distance-histogram.js';
import { LRU_BLOCK_BYTES, shareOf, type HitShares, type LruCounter, type LruCurve } from './lru-curve.js';
import { StackDistances } from './stack-distances.js';

/** Requests of one kind by the distance that decides over them, and their bytes. */
class Tally {
  requests = 0;
  bytes = 0;
  readonly requestBins: DistanceHistogram;
  readonly byteBins: DistanceHistogram;

  constructor(sizes: Float64Array) {
    this.requestBins = new DistanceHistogram(sizes);
    this.byteBins = new DistanceHistogram(sizes);
  }
}

export class ExactLru implements LruCounter {
  private readonly distances = new StackDistances();
  private readonly reads: Tally;
  private readonly writes: Tally;
  private references = 0;

  constructor(private readonly sizesBytes: readonly number[]) {
    const sizes = Float64Array.from(sizesBytes, (bytes) => Math.floor(bytes / LRU_BLOCK_BYTES));
    this.reads = new Tally(sizes);
    this.writes = new Tally(sizes);
  }

  request(isRead: boolean, offset: number, end: number): void {
    const tally = isRead ? this.reads : this.writes;
    const { requestBins, byteBins } = tally;
    let worst = 0;
    let at = offset;
    for (let block = Math.floor(offset / LRU_BLOCK_BYTES); at < end; block++) {
      const blockEnd = Math.min(end, (block + 1) * LRU_BLOCK_BYTES);
      const bin = byteBins.binOf(this.distances.touch(block));
      byteBins.add(bin, blockEnd - at);
      if (bin > worst) worst = bin;
      at = blockEnd;
      this.references++;
    }
    requestBins.add(worst, 1);
    tally.requests++;
    tally.bytes += end - offset;
  }

  curve(): LruCurve {
    const { reads, writes, sizesBytes } = this;
    const [readRequests, readBytes] = [reads.requestBins.hits(), reads.byteBins.hits()];
    const [writeRequests, writeBytes] = [writes.requestBins.hits(), writes.byteBins.hits()];
    const shares = (requestHits: number, requests: number, byteHits: number, bytes: number): HitShares => ({
      byRequests: shareOf(requestHits, requests),
      byBytes: shareOf(byteHits, bytes),
    });
    return {
      method: 'exact',
      blockBytes: LRU_BLOCK_BYTES,
      uniqueBlocks: this.distances.blocks,
      references: this.references,
      reads: reads.requests,
      writes: writes.requests,
      sampling: null,
      points: sizesBytes.map((cacheBytes, i) => ({
        cacheBytes,
        reads: shares(readRequests[i], reads.requests, readBytes[i], reads.bytes),
        all: shares(
          readRequests[i] + writeRequests[i],
          reads.requests + writes.requests,
          readBytes[i] + writeBytes[i],
          reads.bytes + writes.bytes,
        ),
      })),
    };
  }
}
