/**
 * Checks the chain of segments with their infos and generations (format §1 "Segment"). Where the chain is
 * broken the check goes on as if it were the identity there, which is all the kernel ever makes, so that the
 * log behind it is examined too. Bounded: as many steps as the cache has segments.
 */
import {
  decodeGeneration,
  decodeSegmentInfo,
  GENERATION_BYTES,
  SEGMENT_INFO_BYTES,
  SEGMENT_TYPE_CACHE_DATA,
  type Generation,
  type SegmentInfo,
} from '../engine/media/codecs.js';
import { readDual, type Dual } from '../engine/media/dual.js';
import { generationCopies, segmentDataOffsetBytes, segmentInfoCopies } from '../engine/media/geometry.js';
import { KSET_HEADER_BYTES } from '../engine/media/kset.js';
import type { SegmentChain } from '../engine/media/metadata.js';
import type { CheckContext } from './context.js';
import { checkCopies } from './check-copies.js';

/** Bits of the segment flags that mean something. */
const SEGMENT_FLAGS_KNOWN = 0x1f;
/** How many segments are looked at for a trace of a cache. */
const TRACE_SEGMENTS = 32;

/** Is there a good segment info near the beginning of the device? */
export function hasSegmentInfo(context: CheckContext, room: number): boolean {
  for (let physicalId = 0; physicalId < Math.min(room, TRACE_SEGMENTS); physicalId++) {
    const info = readInfo(context, physicalId);
    if (info.value?.type === SEGMENT_TYPE_CACHE_DATA) return true;
  }
  return false;
}

/** Segments behind those of the cache that have an info, and something in their data area: physical ids. */
export function segmentsBeyond(context: CheckContext, segmentCount: number, room: number): number[] {
  const found: number[] = [];
  for (let physicalId = segmentCount; physicalId < room; physicalId++) {
    if (readInfo(context, physicalId).value?.type !== SEGMENT_TYPE_CACHE_DATA) continue;
    const bytes = new Uint8Array(KSET_HEADER_BYTES);
    context.source.read(segmentDataOffsetBytes(context.geometry, physicalId), bytes, 0, bytes.length);
    if (bytes.some((byte) => byte !== 0)) found.push(physicalId);
  }
  return found;
}

function readInfo(context: CheckContext, physicalId: number): Dual<SegmentInfo> {
  const copies = segmentInfoCopies(context.geometry, physicalId);
  return readDual<SegmentInfo>(context.source, copies, SEGMENT_INFO_BYTES, decodeSegmentInfo);
}

/** The part of a chain that the log and its keys need. */
export interface CheckedChain extends Pick<SegmentChain, 'physicalId' | 'dataOffsetBytes' | 'generation'> {
  length: number;
  /** Segments, by logical id, both of whose infos and generations are lost: damage went over all of their beginning. */
  readonly lost: ReadonlySet<number>;
}

/**
 * @param firstSegmentId physical id of the first segment
 * @param segmentCount how many there should be
 * @param room how many the device has room for
 * @returns the chain, as far as it could be followed or guessed
 */
export function checkChain(
  context: CheckContext,
  firstSegmentId: number,
  segmentCount: number,
  room: number,
): CheckedChain {
  const { findings } = context;
  const bound = Math.min(segmentCount, room);
  const lost = new Set<number>();
  const chain: CheckedChain = {
    length: 0,
    lost,
    physicalId: new Uint32Array(bound),
    dataOffsetBytes: new Float64Array(bound),
    generation: new Float64Array(bound),
  };
  const taken = new Uint8Array(room);
  let next: number | undefined = firstSegmentId;
  let isWhole = true;
  for (let logical = 0; logical < bound; logical++) {
    const guess = logical === 0 ? 0 : chain.physicalId[logical - 1] + 1;
    let physicalId: number = next ?? guess;
    if (next === undefined) isWhole = false;
    const problem = physicalId >= room ? 'CHAIN_LEAVES_DEVICE' : taken[physicalId] === 1 ? 'CHAIN_CYCLE' : undefined;
    if (problem !== undefined) {
      const from = logical === 0 ? 'cache_info' : `segment ${logical - 1}`;
      const what = problem === 'CHAIN_CYCLE' ? 'which is in the chain already' : `the device has ${room}`;
      if (next !== undefined) findings.add(problem, from, `it leads to physical segment ${physicalId}, ${what}`);
      isWhole = false;
      if (next === undefined || guess >= room || taken[guess] === 1) break;
      physicalId = guess;
    }
    taken[physicalId] = 1;
    chain.physicalId[logical] = physicalId;
    chain.dataOffsetBytes[logical] = segmentDataOffsetBytes(context.geometry, physicalId);
    chain.length = logical + 1;
    const info = checkInfo(context, logical, physicalId, segmentCount);
    next = info.next;
    const generation = checkGeneration(context, logical, physicalId);
    chain.generation[logical] = generation ?? 0;
    if (info.isLost && generation === undefined) lost.add(logical);
    context.examined.segments++;
    context.examined.metadataCopies += 4;
  }
  if (isWhole && bound === segmentCount && isOutOfOrder(chain.physicalId)) {
    const at = chain.physicalId.findIndex((id, logical) => id !== logical);
    const detail = `it leads to physical segment ${chain.physicalId[at]}, where most lead to the one after them`;
    findings.add('CHAIN_OUT_OF_ORDER', `segment ${at - 1}`, detail);
  }
  // Where cache_info is lost the count is a guess.
  const beyond = context.findings.has('CACHE_INFO_LOST') ? [] : segmentsBeyond(context, segmentCount, room);
  if (isWhole && firstSegmentId === 0 && beyond.length > 0) {
    const detail = `${beyond.length} segments behind the ${segmentCount} of the cache have infos and hold something`;
    findings.add('SEGMENTS_BEYOND_CACHE', `physical segment ${beyond[0]}`, detail);
  }
  if (chain.length === bound && bound < segmentCount && next !== undefined && next >= room) {
    findings.add(
      'CHAIN_LEAVES_DEVICE',
      bound === 0 ? 'cache_info' : `segment ${bound - 1}`,
      `it leads to physical segment ${next}, the device has ${room}`,
    );
  }
  return chain;
}

/**
 * Is a whole chain not the identity, though it was made as one? Nobody makes another; where most segments lead to the
 * one after them, infos have changed places. One that has no order at all is taken for what it says.
 * @param path physical ids in the order of the chain
 */
export function isOutOfOrder(path: ArrayLike<number>): boolean {
  if (path[0] !== 0) return false;
  let inOrder = 0;
  for (let at = 1; at < path.length; at++) if (path[at] === path[at - 1] + 1) inOrder++;
  const links = path.length - 1;
  return inOrder < links && 2 * inOrder >= links;
}

function describe(logical: number, physicalId: number): string {
  return logical === physicalId ? `segment ${logical}` : `segment ${logical} (physical ${physicalId})`;
}

/** Do both copies of an info lead on, and not to the same segment? The link is written once, so one is a wrong one. */
export function leadApart({ copies: [first, second] }: Dual<SegmentInfo>): boolean {
  const bothLead = first.crcOk && second.crcOk && first.hasNext && second.hasNext;
  return bothLead && first.nextSegmentId !== second.nextSegmentId;
}

/** @returns physical id of the next segment, or undefined where the chain does not say; and whether the info is lost. */
function checkInfo(
  context: CheckContext,
  logical: number,
  physicalId: number,
  segmentCount: number,
): { readonly next: number | undefined; readonly isLost: boolean } {
  const { findings } = context;
  const where = describe(logical, physicalId);
  const dual = readInfo(context, physicalId);
  checkCopies(context, 'SEGMENT_INFO', `${where} info`, dual, 1);
  const info = dual.value;
  if (!info) {
    findings.add('SEGMENT_INFO_LOST', where, 'neither copy of its info is good');
    return { next: undefined, isLost: true };
  }
  if (leadApart(dual)) {
    const [first, second] = dual.copies;
    const detail = `the copies lead to physical segments ${first.nextSegmentId} and ${second.nextSegmentId}`;
    findings.add('SEGMENT_INFO_SEQ_SUSPECT', `${where} info`, detail);
  }
  if (info.type !== SEGMENT_TYPE_CACHE_DATA) findings.add('SEGMENT_TYPE_WRONG', where, `its type is ${info.type}`);
  const unknown = info.flags & ~SEGMENT_FLAGS_KNOWN;
  if (unknown !== 0) findings.add('SEGMENT_UNKNOWN_FLAGS', where, `flags 0x${(unknown >>> 0).toString(16)}`);
  const last = logical === segmentCount - 1;
  if (!info.hasNext && !last) {
    findings.add('CHAIN_ENDS_EARLY', where, `the chain ends after ${logical + 1} of ${segmentCount} segments`);
    return { next: undefined, isLost: false };
  }
  if (info.hasNext && last) {
    findings.add('CHAIN_LAST_HAS_NEXT', where, `it is linked to physical segment ${info.nextSegmentId}`);
  }
  return { next: info.hasNext ? info.nextSegmentId : undefined, isLost: false };
}

/** @returns the generation, or undefined where it is lost; the kernel takes it for 0 then. */
function checkGeneration(context: CheckContext, logical: number, physicalId: number): number | undefined {
  const copies = generationCopies(context.geometry, physicalId);
  const dual = readDual<Generation>(context.source, copies, GENERATION_BYTES, decodeGeneration);
  const where = describe(logical, physicalId);
  checkCopies(context, 'GENERATION', `${where} generation`, dual, context.generationUpdatesMax);
  if (dual.value) return dual.value.generation;
  context.findings.add('GENERATION_LOST', where, 'neither copy of its generation is good');
  return undefined;
}
