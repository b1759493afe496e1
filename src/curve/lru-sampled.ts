/**
 * The LRU curve from samples, for traces whose blocks are too many for the exact one: bounded memory and a fraction of
 * the time. Several disjoint samples are taken side by side, each a whole SHARDS of its own; the curve is their mean,
 * and its error comes from how they differ.
 *
 * Each sampled reference stands for as many as its chance to be sampled says; what is then missing of the known total
 * (or too much) is given to the smallest size, since it is the most used blocks, at small distances, that make the
 * difference (SHARDS-adj). Shares are by bytes only: whether all blocks of a request hit cannot be told from some of
 * them.
 */
import { assert } from '../engine/errors.js';
import { mixBlock } from './block-table.js';
import { DistanceHistogram } from './distance-histogram.js';
import {
  LRU_BLOCK_BYTES,
  type HitShares,
  type LruCounter,
  type LruCurve,
  type Sampling,
  type Share,
} from './lru-curve.js';
import { HASH_RANGE, SpatialSample } from './spatial-sample.js';

export const SAMPLES = 8;
const SAMPLE_BITS = 3;
/** Blocks of one sample unless the user says a rate. */
const DEFAULT_BLOCKS = 16_384;
/** Other than that of the table: a sample must not fill every eighth bucket only. */
const SALT = 0x5bd1e995;
/** Student's t for 95 % and one less than the samples. */
const T_95 = 2.365;

export const DEFAULT_SAMPLING: Sampling = { kind: 'fixed-size', blocks: DEFAULT_BLOCKS };

/** The requests of one kind: how many there are, which is known, and what each sample says of their bytes. */
class Tally {
  requests = 0;
  bytes = 0;
  readonly bins: readonly DistanceHistogram[];

  constructor(sizes: Float64Array) {
    this.bins = Array.from({ length: SAMPLES }, () => new DistanceHistogram(sizes));
  }

  /** What hits at each size by each sample; what is missing of the known whole hits at the smallest. */
  hits(): Float64Array[] {
    return this.bins.map((bins) => {
      const missing = this.bytes - bins.total;
      return bins.hits().map((hits) => hits + missing);
    });
  }
}

export class SampledLru implements LruCounter {
  private readonly samples: SpatialSample[];
  private readonly reads: Tally;
  private readonly writes: Tally;
  private references = 0;

  constructor(
    private readonly sizesBytes: readonly number[],
    private readonly sampling: Sampling,
  ) {
    const sizes = Float64Array.from(sizesBytes, (bytes) => Math.floor(bytes / LRU_BLOCK_BYTES));
    const rate = sampling.kind === 'fixed-rate' ? sampling.rate : 1;
    const maxBlocks = sampling.kind === 'fixed-size' ? sampling.blocks : Infinity;
    this.samples = Array.from({ length: SAMPLES }, () => new SpatialSample(1 / SAMPLES, rate, maxBlocks));
    this.reads = new Tally(sizes);
    this.writes = new Tally(sizes);
  }

  get memoryBytes(): number {
    return this.samples.reduce((sum, sample) => sum + sample.memoryBytes, 0);
  }

  request(isRead: boolean, offset: number, end: number): void {
    const tally = isRead ? this.reads : this.writes;
    tally.requests++;
    tally.bytes += end - offset;
    let at = offset;
    for (let block = Math.floor(offset / LRU_BLOCK_BYTES); at < end; block++) {
      const blockEnd = Math.min(end, (block + 1) * LRU_BLOCK_BYTES);
      const mixed = mixBlock(block, SALT);
      const which = mixed & (SAMPLES - 1);
      const sample = this.samples[which];
      const hash = mixed >>> SAMPLE_BITS;
      if (hash < sample.threshold) {
        // The rate by which the block was chosen: the touch may lower it.
        const { rate } = sample;
        const bins = tally.bins[which];
        bins.add(bins.binOf(sample.touch(block, hash)), (blockEnd - at) / rate);
      }
      at = blockEnd;
      this.references++;
    }
  }

  curve(): LruCurve {
    const { samples, sizesBytes, reads, writes, sampling } = this;
    const readHits = reads.hits();
    const writeHits = writes.hits();
    const allHits = readHits.map((hits, at) => hits.map((value, i) => value + writeHits[at][i]));
    const shares = (hits: Float64Array[], i: number, bytes: number): HitShares => ({
      byRequests: null,
      byBytes: estimate(hits, i, bytes),
    });
    return {
      method: 'sampled',
      blockBytes: LRU_BLOCK_BYTES,
      uniqueBlocks: Math.round(samples.reduce((sum, sample) => sum + sample.blocks / sample.rate, 0) / SAMPLES),
      references: this.references,
      reads: reads.requests,
      writes: writes.requests,
      sampling: {
        kind: sampling.kind,
        samples: SAMPLES,
        rate: samples.reduce((sum, sample) => sum + sample.rate, 0),
        sampledBlocks: samples.reduce((sum, sample) => sum + sample.blocks, 0),
      },
      points: sizesBytes.map((cacheBytes, i) => ({
        cacheBytes,
        reads: shares(readHits, i, reads.bytes),
        all: shares(allHits, i, reads.bytes + writes.bytes),
      })),
    };
  }
}

function estimate(hits: readonly Float64Array[], i: number, whole: number): Share | null {
  if (whole === 0) return null;
  const ratios = hits.map((ofSample) => ofSample[i] / whole);
  const mean = ratios.reduce((sum, ratio) => sum + ratio, 0) / SAMPLES;
  const variance = ratios.reduce((sum, ratio) => sum + (ratio - mean) ** 2, 0) / (SAMPLES - 1);
  return { ratio: Math.min(1, Math.max(0, mean)), error: T_95 * Math.sqrt(variance / SAMPLES) };
}

assert(HASH_RANGE * SAMPLES === 2 ** 32 && SAMPLES === 1 << SAMPLE_BITS, 'the bits of a hash do not add up');
