/**
 * What a curve says to somebody who must choose a size: the smallest cache that hits nearly as much as the largest, what
 * that costs in write-back, what no cache of any size can hit, and how much is in use at a time.
 */
import type { LruCurve } from './lru-curve.js';
import type { CurvePoint, SizingAnswers } from './result.js';
import type { WorkingSet } from './working-set.js';

/** "Nearly as much": two points of the hit ratio of reads by bytes. */
const NEARLY = 0.02;

export function sizingAnswers(
  curve: readonly CurvePoint[],
  lru: LruCurve | null,
  workingSet: WorkingSet | null,
): SizingAnswers {
  const ratios = curve.flatMap(({ hitRatioByBytes }) => (hitRatioByBytes === null ? [] : [hitRatioByBytes]));
  const best = ratios.length === 0 ? null : Math.max(...ratios);
  const found =
    best === null ? undefined : curve.find(({ hitRatioByBytes }) => (hitRatioByBytes ?? -1) >= best - NEARLY);
  return {
    nearlyBest:
      best === null || found === undefined
        ? null
        : {
            cacheBytes: found.cacheBytes,
            hitRatioByBytes: found.hitRatioByBytes ?? 0,
            backingWriteBytes: found.backingWriteBytes,
            writeAmplification: found.writeAmplification,
            bestHitRatioByBytes: best,
          },
    coldMissRatioByBytes: coldMisses(lru),
    workingSet,
  };
}

function coldMisses(lru: LruCurve | null): number | null {
  const last = lru?.points.at(-1);
  if (lru === null || last === undefined || last.cacheBytes < lru.uniqueBlocks * lru.blockBytes) return null;
  return last.reads.byBytes === null ? null : 1 - last.reads.byBytes.ratio;
}
