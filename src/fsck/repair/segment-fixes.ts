/**
 * Repairs of the chain of segments (format §1 "Segment"): infos that are lost or wrong, and the links between
 * them. The chain is what the infos say where that holds together; where it is broken it goes on with the next
 * segment, which is all that anybody ever makes; and when even that does not give a whole chain, or one that is out
 * of order, it is the identity, if most of the infos agree with it.
 */
import {
  decodeSegmentInfo,
  encodeCacheInfo,
  encodeSegmentInfo,
  SEGMENT_INFO_BYTES,
  SEGMENT_TYPE_CACHE_DATA,
  type SegmentInfo,
} from '../../engine/media/codecs.js';
import { readDual, type Dual } from '../../engine/media/dual.js';
import { segmentInfoCopies } from '../../engine/media/geometry.js';
import type { FindingCode } from '../catalogue.js';
import { isOutOfOrder, leadApart } from '../chain.js';
import { judgeDual } from '../check-copies.js';
import { lossesOfReordering } from './chain-order.js';
import { rewriteLostCopy, rewriteBoth } from './rewrite-copies.js';
import { judgeKey, keyRange, walkLog } from './log-walk.js';
import { mergeRanges, type ByteRange } from './ranges.js';
import { hasFinding, type Fix, type Loss, type PlanView } from './types.js';

const SEGMENT_FLAGS_KNOWN = 0x1f;
const CODES: readonly FindingCode[] = [
  'SEGMENT_INFO_LOST',
  'SEGMENT_UNKNOWN_FLAGS',
  'SEGMENT_TYPE_WRONG',
  'CHAIN_ENDS_EARLY',
  'CHAIN_LEAVES_DEVICE',
  'CHAIN_CYCLE',
  'CHAIN_LAST_HAS_NEXT',
  'CHAIN_OUT_OF_ORDER',
];
const COPY_CODES: readonly FindingCode[] = ['SEGMENT_INFO_COPY_LOST', 'SEGMENT_INFO_SEQ_SUSPECT'];
const NONE = -1;

export function planSegments(view: PlanView): Fix[] {
  const { header } = view;
  // A cache that goes on beyond the device was cut; there is nothing to link.
  if (header.segmentCount > header.room || header.segmentCount === 0) return [];
  if (hasFinding(view, ...CODES) || anyLeadsApart(view)) return repairChain(view);
  return hasFinding(view, ...COPY_CODES) ? repairCopies(view) : [];
}

function readInfo(view: PlanView, id: number): Dual<SegmentInfo> {
  const copies = segmentInfoCopies(view.context.geometry, id);
  return readDual<SegmentInfo>(view.context.source, copies, SEGMENT_INFO_BYTES, decodeSegmentInfo);
}

function anyLeadsApart(view: PlanView): boolean {
  if (!hasFinding(view, 'SEGMENT_INFO_SEQ_SUSPECT')) return false;
  for (let id = 0; id < view.header.room; id++) if (leadApart(readInfo(view, id))) return true;
  return false;
}

function repairCopies(view: PlanView): Fix[] {
  const fixes: Fix[] = [];
  const { chain, context } = view;
  for (let logical = 0; logical < chain.length; logical++) {
    const dual = readInfo(view, chain.physicalId[logical]);
    const verdict = judgeDual(dual, 1);
    if (verdict === 'good' || verdict === 'lost') continue;
    fixes.push({
      id: `copy ${dual.offsets[0]}`,
      codes: [verdict === 'seq-suspect' ? 'SEGMENT_INFO_SEQ_SUSPECT' : 'SEGMENT_INFO_COPY_LOST'],
      action: `write copy ${1 - dual.winner} of the info of segment ${logical} again from copy ${dual.winner}`,
      consent: 'plain',
      losses: [],
      steps: rewriteLostCopy(context, dual, SEGMENT_INFO_BYTES),
    });
  }
  return fixes;
}

function repairChain(view: PlanView): Fix[] {
  const { header } = view;
  const chosen = choosePath(view);
  if (chosen === undefined) return [];
  const { path } = chosen;
  // With the first repair: the others go with it.
  let losses: Loss[] = chosen.instead === undefined ? [] : lossesOfReordering(view, chosen.instead, path);
  const fixes: Fix[] = [];
  path.forEach((id, logical) => {
    const next = logical + 1 < path.length ? path[logical + 1] : undefined;
    const dual = readInfo(view, id);
    if (isSound(dual, next)) return;
    const link = next === undefined ? 'the last of the chain' : `linked to physical segment ${next}`;
    fixes.push({
      id: `info ${id} ${next ?? 'last'}`,
      codes: [...CODES, ...COPY_CODES].filter((code) => hasFinding(view, code)),
      action: `write the info of segment ${logical} again, ${link}`,
      ...(dual.value === undefined ? { assumed: 'the chain goes on with the next segment there' } : {}),
      consent: 'plain',
      losses: [...losses, ...lossOfPayload(view, logical)],
      steps: rewriteBoth(dual, (seq) => encodeSegmentInfo(next, seq)),
    });
    losses = [];
  });
  const { cacheInfo } = header.found;
  const info = cacheInfo.value;
  if (info !== undefined && info.firstSegmentId !== path[0]) {
    fixes.push({
      id: `first segment ${path[0]}`,
      codes: ['CHAIN_LEAVES_DEVICE'],
      action: `write cache_info again, with ${path[0]} as the first segment`,
      consent: 'plain',
      losses: [],
      steps: rewriteBoth(cacheInfo, (seq) => encodeCacheInfo({ ...info, firstSegmentId: path[0] }, seq)),
    });
  }
  return fixes;
}

/**
 * Where damage went over all metadata of a segment it may have gone over its payload, and without CRCs nothing tells:
 * what its keys are for may be lost.
 */
function lossOfPayload(view: PlanView, logical: number): Loss[] {
  const { header, log, chain } = view;
  if (log === undefined || !chain.lost.has(logical) || header.flags?.dataCrc === true) return [];
  const ranges: ByteRange[] = [];
  walkLog(view, log.start, (kset) => {
    for (let index = 0; index < kset.keyCount; index++) {
      if (kset.keySegment(index) === logical && judgeKey(view, kset, index) !== 'bad')
        ranges.push(keyRange(kset, index));
    }
  });
  if (ranges.length === 0) return [];
  const reason = 'info and generation of the segment are lost, so its payload may be too, and no CRC tells';
  const mayBeMore = hasFinding(view, 'LOG_CUT_SHORT', 'LOG_END_TORN', 'KEY_TAIL_LOST');
  return [{ kind: 'perhaps-lost', where: `segment ${logical}`, reason, ranges: mergeRanges(ranges), mayBeMore }];
}

function isSound(dual: Dual<SegmentInfo>, next: number | undefined): boolean {
  const info = dual.value;
  if (info === undefined || leadApart(dual) || info.type !== SEGMENT_TYPE_CACHE_DATA) return false;
  if ((info.flags & ~SEGMENT_FLAGS_KNOWN) !== 0 || info.hasNext !== (next !== undefined)) return false;
  return next === undefined || info.nextSegmentId === next;
}

interface ChosenPath {
  /** Physical ids in the order of the chain. */
  readonly path: number[];
  /** A whole chain that the infos give, out of order, in whose place it goes. */
  readonly instead?: number[];
}

function choosePath(view: PlanView): ChosenPath | undefined {
  const { header } = view;
  const { room, segmentCount, firstSegmentId } = header;
  const links = new Int32Array(room).fill(NONE);
  const pointsAt = new Int32Array(room).fill(NONE);
  let agreeing = 0;
  let good = 0;
  for (let id = 0; id < room; id++) {
    const dual = readInfo(view, id);
    // Of two copies that lead apart the one that leads to the next segment is right.
    const info = leadApart(dual)
      ? (dual.copies.find((copy) => copy.nextSegmentId === id + 1) ?? dual.value)
      : dual.value;
    if (info === undefined) continue;
    good++;
    const next = info.hasNext && info.nextSegmentId < room ? info.nextSegmentId : NONE;
    if (next === id + 1 || (next === NONE && id === segmentCount - 1)) agreeing++;
    if (next === NONE) continue;
    // Of two that lead to one segment, the one just before it is right.
    const other = pointsAt[next];
    if (other !== NONE && other === next - 1) continue;
    if (other !== NONE) links[other] = NONE;
    links[id] = next;
    pointsAt[next] = id;
  }
  const first = firstSegmentId < room ? firstSegmentId : 0;
  const recorded = follow(links, first, segmentCount);
  if (recorded !== undefined) return inOrder(recorded);
  for (let id = 0; id + 1 < room; id++) if (links[id] === NONE) links[id] = id + 1;
  const completed = follow(links, first, segmentCount);
  if (completed !== undefined) return inOrder(completed);
  return agreeing * 2 >= good ? { path: identity(segmentCount) } : undefined;
}

function inOrder(path: number[]): ChosenPath {
  return isOutOfOrder(path) ? { path: identity(path.length), instead: path } : { path };
}

function identity(segmentCount: number): number[] {
  return Array.from({ length: segmentCount }, (_, id) => id);
}

/** The chain from `first`, when it has `count` segments that are all different. */
function follow(links: Int32Array, first: number, count: number): number[] | undefined {
  const path: number[] = [];
  const taken = new Uint8Array(links.length);
  for (let id = first; path.length < count; id = links[id]) {
    if (id === NONE || taken[id] === 1) return undefined;
    taken[id] = 1;
    path.push(id);
  }
  return path;
}
