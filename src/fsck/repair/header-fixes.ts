/**
 * Repairs of cache_info and of the superblock (format §1). The superblock comes last of all: with it a device
 * attaches, so everything it vouches for must be in order before.
 */
import {
  CACHE_INFO_BYTES,
  CACHE_MODES,
  decodeCacheFlags,
  decodeSegmentInfo,
  encodeCacheFlags,
  encodeCacheInfo,
  encodeSuperblock,
  GC_PERCENT_DEFAULT,
  GC_PERCENT_MAX,
  SEGMENT_INFO_BYTES,
  type CacheFlags,
  type CacheInfo,
  type MetaHeader,
  type SegmentInfo,
} from '../../engine/media/codecs.js';
import { readDual, seqAfter } from '../../engine/media/dual.js';
import { segmentInfoCopies, SUPERBLOCK_OFFSET_BYTES } from '../../engine/media/geometry.js';
import {
  isNewerSetting,
  LINUX_6_18,
  readStrayCacheInfo,
  STRAY_CACHE_INFO_OFFSET_BYTES,
} from '../../engine/media/linux-6-18.js';
import type { FindingCode } from '../catalogue.js';
import { judgeDual } from '../check-copies.js';
import { payloadMatch } from '../payload-match.js';
import { findLostRun } from '../torn-or-lost.js';
import { rewriteLostCopy, rewriteBoth } from './rewrite-copies.js';
import { keyRange, walkLog, type KsetVisitor } from './log-walk.js';
import { mergeRanges, type ByteRange } from './ranges.js';
import { hasFinding, type Change, type Fix, type Loss, type PlanView } from './types.js';

const SUPERBLOCK_CODES: readonly FindingCode[] = [
  'SUPERBLOCK_ZERO_MAGIC',
  'SUPERBLOCK_BAD_MAGIC',
  'SUPERBLOCK_BAD_CRC',
  'SUPERBLOCK_BIG_ENDIAN',
  'SUPERBLOCK_UNKNOWN_FLAGS',
  'SUPERBLOCK_SEGMENTS_ZERO',
  'SUPERBLOCK_SEGMENTS_BEYOND_DEVICE',
  'CACHE_INFO_SEGMENTS_EXCEED_SUPERBLOCK',
];
const FLAG_CODES: readonly FindingCode[] = [
  'CACHE_INFO_NOT_INITIALISED',
  'CACHE_INFO_UNKNOWN_FLAGS',
  'CACHE_MODE_UNKNOWN',
  'GC_PERCENT_OUT_OF_RANGE',
  'CACHE_INFO_SEGMENTS_ZERO',
];
/** Bits of the cache_info flags that mean something. */
const CACHE_FLAGS_KNOWN = 0x1fff;
/** Keys whose payload is looked at to tell whether a cache has data_crc. */
const SAMPLE_KEYS = 64;
/** Of no more keys than this all may have lost their payload. */
const FEW_KEYS = 4;

export function planCacheInfo(view: PlanView): Fix[] {
  const { cacheInfo } = view.header.found;
  const info = cacheInfo.value;
  const base = { consent: 'plain', losses: [] } as const;
  if (info === undefined) return rebuildCacheInfo(view, payloadCrcEvidence(view), true);
  const codes = FLAG_CODES.filter((code) => hasFinding(view, code));
  const tooMany = info.segmentCount > view.header.room ? wholeChain(view) : undefined;
  if (tooMany !== undefined && tooMany < info.segmentCount) codes.push('CACHE_INFO_SEGMENTS_EXCEED_SUPERBLOCK');
  if (codes.length > 0) {
    const segmentCount = tooMany ?? (info.segmentCount === 0 ? chainLength(view) : info.segmentCount);
    const flags = encodeCacheFlags(soundFlags(decodeCacheFlags(info.flags)));
    const encode = (seq: number) => encodeCacheInfo({ firstSegmentId: info.firstSegmentId, segmentCount, flags }, seq);
    const action = `write cache_info again, with ${segmentCount} segments and flags 0x${flags.toString(16)}`;
    return [{ ...base, id: `cache_info ${codes.join()}`, codes, action, steps: rewriteBoth(cacheInfo, encode) }];
  }
  if (hasFinding(view, 'CACHE_INFO_LAYOUT_OLD')) return [planLayout(view, info)];
  const verdict = judgeDual(cacheInfo, 1);
  if (verdict === 'good') return [];
  const code = verdict === 'seq-suspect' ? 'CACHE_INFO_SEQ_SUSPECT' : 'CACHE_INFO_COPY_LOST';
  const action = `write copy ${1 - cacheInfo.winner} of cache_info again from copy ${cacheInfo.winner}`;
  const steps = rewriteLostCopy(view.context, cacheInfo, CACHE_INFO_BYTES);
  return [{ ...base, id: `copy ${cacheInfo.offsets[0]}`, codes: [code], action, steps }];
}

/** Brings cache_info to the layout of later kernels (format §5.1): a newer stray copy moves to where they read it. */
function planLayout(view: PlanView, info: CacheInfo & MetaHeader): Fix {
  const { cacheInfo } = view.header.found;
  const stray = readStrayCacheInfo(view.context.source);
  const base = { codes: ['CACHE_INFO_LAYOUT_OLD'], consent: 'plain', losses: [], id: 'cache_info layout' } as const;
  const target = cacheInfo.offsets[1];
  if (stray !== undefined && isNewerSetting(stray, info)) {
    const { gcPercent } = decodeCacheFlags(stray.flags);
    const action = `move the newer copy of cache_info from byte ${STRAY_CACHE_INFO_OFFSET_BYTES} to byte ${target}, where kernels read it: gc_percent ${gcPercent}`;
    return {
      ...base,
      action,
      steps: [[{ offsetBytes: target, bytes: encodeCacheInfo(stray, stray.seq) }], clearStray()],
    };
  }
  const steps = rewriteLostCopy(view.context, cacheInfo, CACHE_INFO_BYTES);
  const action = `write copy 1 of cache_info, which ${LINUX_6_18} does not, from copy 0`;
  return { ...base, action, steps: stray === undefined ? steps : [...steps, clearStray()] };
}

/** So that nothing takes the stray copy for evidence later. */
function clearStray(): Change[] {
  return [{ offsetBytes: STRAY_CACHE_INFO_OFFSET_BYTES, bytes: new Uint8Array(CACHE_INFO_BYTES) }];
}

function soundFlags(flags: CacheFlags): CacheFlags {
  return {
    dataCrc: flags.dataCrc,
    initDone: true,
    modeNumber: flags.modeNumber < CACHE_MODES.length ? flags.modeNumber : 0,
    gcPercent: flags.gcPercent > GC_PERCENT_MAX ? GC_PERCENT_DEFAULT : flags.gcPercent,
  };
}

/** A cache_info that is lost, of a log that has no more to tell. */
export function planLostCacheInfo(view: PlanView): Fix[] {
  return view.header.found.cacheInfo.value === undefined ? rebuildCacheInfo(view, payloadCrcEvidence(view), false) : [];
}

/** @param mayWait a log that is repaired first may tell more */
function rebuildCacheInfo(view: PlanView, evidence: CrcEvidence, mayWait: boolean): Fix[] {
  const segmentCount = chainLength(view);
  const remains = remainsOfCacheInfo(view, segmentCount);
  // None would match by chance.
  const provesCrc = evidence.matching > 0;
  const isPlain = provesCrc || evidence.tried > FEW_KEYS;
  if (mayWait && !isPlain) return [];
  const isTold = evidence.tried > 0 || remains !== undefined || view.options.dataCrc !== undefined;
  const dataCrc = provesCrc || (!isPlain && (view.options.dataCrc ?? remains?.dataCrc ?? false));
  const { modeNumber, gcPercent } = remains ?? { modeNumber: 0, gcPercent: GC_PERCENT_DEFAULT };
  const flags = encodeCacheFlags({ dataCrc, initDone: true, modeNumber, gcPercent });
  const firstSegmentId = view.header.firstSegmentId;
  const told =
    evidence.tried > 0
      ? `data_crc ${dataCrc ? 'on' : 'off'}, since ${evidence.matching} of ${evidence.tried} payloads match the CRC in their keys`
      : isTold
        ? `data_crc ${dataCrc ? 'on' : 'off'}, as ${view.options.dataCrc === undefined ? 'what is left of cache_info' : '--data-crc'} says`
        : 'no key tells whether there was data_crc';
  return [
    {
      id: 'cache_info lost',
      codes: ['CACHE_INFO_LOST'],
      action: `write cache_info again, with a chain of ${segmentCount} segments from ${firstSegmentId}`,
      assumed: `mode ${CACHE_MODES[modeNumber]}, gc_percent ${gcPercent}, ${told}`,
      consent: isTold ? 'plain' : 'data-crc',
      losses: isPlain ? [] : lossOfSample(evidence.doubtful),
      steps: [
        ...rewriteBoth(view.header.found.cacheInfo, (seq) =>
          encodeCacheInfo({ firstSegmentId, segmentCount, flags }, seq),
        ),
        ...(readStrayCacheInfo(view.context.source) === undefined ? [] : [clearStray()]),
      ],
    },
  ];
}

/**
 * What says how the cache was made though no copy is good: the stray copy of Linux 6.18.0 to 6.18.3 (format §5.1), or a
 * copy whose CRC alone is wrong, as a write that was cut off leaves it. The two were written in turn, so a stray copy
 * that is not one of an earlier attach is the newest that was written whole.
 */
function remainsOfCacheInfo(view: PlanView, segmentCount: number): CacheFlags | undefined {
  const isPossible = (info: CacheInfo): boolean =>
    info.firstSegmentId === view.header.firstSegmentId &&
    info.segmentCount === segmentCount &&
    (info.flags & ~CACHE_FLAGS_KNOWN) === 0 &&
    decodeCacheFlags(info.flags).initDone &&
    decodeCacheFlags(info.flags).modeNumber < CACHE_MODES.length &&
    decodeCacheFlags(info.flags).gcPercent <= GC_PERCENT_MAX;
  const torn = view.header.found.cacheInfo.copies.find(isPossible);
  const stray = readStrayCacheInfo(view.context.source);
  const counts = stray !== undefined && isPossible(stray) && !(torn && seqAfter(torn.seq, stray.seq + 1));
  const found = counts ? stray : torn;
  return found && decodeCacheFlags(found.flags);
}

/** Few keys, none of which has the payload of its CRC: there was no data_crc, or their payload is gone. */
function lossOfSample(ranges: readonly ByteRange[]): Loss[] {
  if (ranges.length === 0) return [];
  const reason = 'if the cache had data_crc, the payload does not match its CRC; so few keys do not tell';
  return [{ kind: 'perhaps-lost', where: 'cache_info', reason, ranges: mergeRanges(ranges), mayBeMore: false }];
}

/** Segments of the chain, where cache_info does not say: a new cache has all that the superblock counts. */
function chainLength(view: PlanView): number {
  const { room, found } = view.header;
  const { superblock } = found;
  if (superblock.magicOk && superblock.crcOk && superblock.segmentCount > 0)
    return Math.min(superblock.segmentCount, room);
  return view.chain.length === room ? room : (wholeChain(view) ?? room);
}

/** Length of the chain when the infos link segments, one after another, up to one that ends it in order. */
function wholeChain(view: PlanView): number | undefined {
  const { context, header } = view;
  for (let id = header.firstSegmentId; id < header.room; id++) {
    const copies = segmentInfoCopies(context.geometry, id);
    const info = readDual<SegmentInfo>(context.source, copies, SEGMENT_INFO_BYTES, decodeSegmentInfo);
    if (info.value === undefined) return undefined;
    // An only copy may be the older one, which every segment got before the next one was linked to it.
    const older = info.reason === 'only-valid' && info.value.seq === 1 && !info.blank[1 - info.winner];
    if (!info.value.hasNext) return older ? undefined : id - header.firstSegmentId + 1;
    if (info.value.nextSegmentId !== id + 1) return undefined;
  }
  return undefined;
}

interface CrcEvidence {
  tried: number;
  matching: number;
  /** Of keys that do not match, but say something. */
  readonly doubtful: ByteRange[];
}

/** How many of the first current keys of the log have payload that matches the CRC in the key. */
function payloadCrcEvidence(view: PlanView): CrcEvidence {
  const { chain, context, log } = view;
  const found: CrcEvidence = { tried: 0, matching: 0, doubtful: [] };
  if (log === undefined) return found;
  const look: KsetVisitor = (kset) => {
    for (let index = 0; index < kset.keyCount && found.tried < SAMPLE_KEYS; index++) {
      if (kset.keyProblem(index, context.geometry, chain.length, context.backingBytes) !== '') continue;
      const segment = kset.keySegment(index);
      if (kset.keyGeneration(index) < chain.generation[segment]) continue;
      const matches = payloadMatch(context, chain, kset, index);
      // Payload that cannot be read says nothing.
      if (matches === undefined) continue;
      found.tried++;
      if (matches) found.matching++;
      // Without data_crc the field is zero.
      else if (kset.keyDataCrc(index) !== 0) found.doubtful.push(keyRange(kset, index));
    }
    return found.tried < SAMPLE_KEYS;
  };
  walkLog(view, log.start, look);
  const run = found.tried === 0 ? findLostRun(context, chain, log.facts) : undefined;
  if (run !== undefined) walkLog(view, run.first, look);
  return found;
}

/** To be called when nothing else is left to repair. */
export function planSuperblock(view: PlanView): Fix[] {
  const codes = SUPERBLOCK_CODES.filter((code) => hasFinding(view, code));
  const info = view.header.found.cacheInfo.value;
  if (codes.length === 0 || info === undefined) return [];
  const { segmentCount } = info;
  // Only a device that was cut has a chain that leads beyond it.
  const whole = segmentCount > 0 && segmentCount <= view.header.room && view.chain.length === segmentCount;
  if (!whole) return [];
  return [
    {
      id: 'superblock',
      codes,
      action: `write the superblock again, with ${segmentCount} segments`,
      consent: 'plain',
      losses: [],
      steps: [[{ offsetBytes: SUPERBLOCK_OFFSET_BYTES, bytes: encodeSuperblock(segmentCount) }]],
    },
  ];
}
