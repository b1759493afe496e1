/**
 * What is at stake when a whole chain that is out of order is taken for damage (format §1 "Segment"): keys name their
 * segments by their places in the chain, so each that points into a segment which is another one then reads other
 * bytes. That the order was damaged is proven by the log where keys that are not written back, and so cannot have been
 * collected, have other generations than their segments by the chain as it is, and the same by the chain in order; or
 * by payload CRCs, which are checked next. Else those keys are listed.
 */
import { decodeGeneration, GENERATION_BYTES, type Generation } from '../../engine/media/codecs.js';
import { readDual } from '../../engine/media/dual.js';
import { generationCopies, segmentDataOffsetBytes } from '../../engine/media/geometry.js';
import type { CheckedChain } from '../chain.js';
import { checksPayload, isAt, judgeKey, keyRange, walkLog } from './log-walk.js';
import { mergeRanges, type ByteRange } from './ranges.js';
import type { Loss, PlanView } from './types.js';

/**
 * @param from physical ids in the order that the infos give
 * @param to in the order that the chain gets
 */
export function lossesOfReordering(view: PlanView, from: readonly number[], to: readonly number[]): Loss[] {
  if (checksPayload(view)) return [];
  const asItIs = hearLog(view, from, to);
  const inOrder = hearLog(view, to, from);
  if (asItIs.contradictions > 0 && inOrder.contradictions === 0) return [];
  const ranges = mergeRanges([...asItIs.moved, ...inOrder.moved]);
  if (ranges.length === 0) return [];
  const reason = 'nothing but the order in which segments are made tells which segment their keys mean';
  return [{ kind: 'perhaps-lost', where: 'the chain of segments', reason, ranges, mayBeMore: false }];
}

interface Heard {
  /** Keys that are not written back, and are not of their segment's generation. */
  readonly contradictions: number;
  /** What the keys are for that point into segments which are others by the other chain. */
  readonly moved: ByteRange[];
}

function hearLog(view: PlanView, path: readonly number[], other: readonly number[]): Heard {
  const { keyTail, dirtyTail } = view.header;
  const start = keyTail ?? dirtyTail;
  const moved: ByteRange[] = [];
  let contradictions = 0;
  if (start === undefined || start.segment >= path.length) return { contradictions, moved };
  const reading = { ...view, chain: chainOf(view, path) };
  let isDirty = false;
  walkLog(reading, start, (kset, position) => {
    if (isAt(position, dirtyTail)) isDirty = true;
    for (let index = 0; index < kset.keyCount; index++) {
      const verdict = judgeKey(reading, kset, index);
      if (verdict === 'bad') continue;
      if (isDirty && verdict !== 'current') contradictions++;
      const segment = kset.keySegment(index);
      if (path[segment] !== other[segment]) moved.push(keyRange(kset, index));
    }
  });
  return { contradictions, moved };
}

function chainOf(view: PlanView, path: readonly number[]): CheckedChain {
  const { context } = view;
  const generation = path.map((id) => {
    const copies = generationCopies(context.geometry, id);
    const dual = readDual<Generation>(context.source, copies, GENERATION_BYTES, decodeGeneration);
    return dual.value?.generation ?? 0;
  });
  return {
    length: path.length,
    lost: new Set(),
    physicalId: Uint32Array.from(path),
    dataOffsetBytes: Float64Array.from(path, (id) => segmentDataOffsetBytes(context.geometry, id)),
    generation: Float64Array.from(generation),
  };
}
