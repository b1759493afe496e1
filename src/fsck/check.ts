/**
 * Checks a cache, changing nothing: everything the kernel would refuse, everything it would silently lose.
 * One pass collects all it can: damage to one structure does not keep the others from being looked at. Callable
 * as a library; knows no terminal. Every loop over media is bounded by the geometry of the device.
 */
import { availableParallelism } from 'node:os';
import { PcacheError } from '../engine/errors.js';
import type { PmemReader } from '../engine/device/pmem.js';
import { TolerantReader } from '../engine/device/tolerant-reader.js';
import type { Position } from '../engine/media/codecs.js';
import { crc32cRaw, type Crc32c } from '../engine/media/crc32c.js';
import { SEGMENTS_OFFSET_BYTES, type Geometry } from '../engine/media/geometry.js';
import { isMadeBy618 } from '../engine/media/linux-6-18.js';
import { positionText } from '../engine/media/position-text.js';
import { checkChain, type CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';
import { expectedBytes } from './expected-bytes.js';
import { CountingReader, nothingExamined, type Examined } from './examined.js';
import type { FindingCode } from './catalogue.js';
import { explainCut } from './cut-device.js';
import { Findings, type Finding } from './findings.js';
import { checkHeader, type Header } from './header.js';
import { checkLog, type LogFacts } from './log-check.js';
import { checkDirtyTail, chooseLogStart } from './log-tails.js';
import { checkLogEnd } from './torn-or-lost.js';
import { checkLogLost, reportUnreachable } from './lost-log.js';
import { PAYLOAD_MAP_BYTES } from './payload-map.js';
import { reportUnreadable } from './unreadable.js';

/** More threads than this wait for memory. */
const THREADS_MAX = 8;

/** Threads that a check takes CRCs of payload by, unless it is told otherwise. */
export function checkThreads(): number {
  return Math.min(availableParallelism(), THREADS_MAX);
}

/** @param bytesRead so far @param bytesTotal about as many as will have been read at the end of the log */
export type CheckProgress = (bytesRead: number, bytesTotal: number) => void;

export interface CheckOptions {
  readonly geometry: Geometry;
  /** Size of the backing device; keys are not checked against it when it is left out. */
  readonly backingBytes?: number;
  /** Whether to check payload against its CRC, where the cache has data_crc. */
  readonly data: boolean;
  /** CRC-32C for ksets; the table-driven one if not given. */
  readonly crc?: Crc32c;
  /** Threads to take CRCs of payload by, where the device allows it; `checkThreads()` if not given. */
  readonly threads?: number;
  /** Memory for the map of what keys claim, bytes (64 MiB); what does not fit takes a further walk of the log. */
  readonly payloadMapBytes?: number;
  /** Called every so often. The estimate of the total costs a walk of the log. */
  readonly onProgress?: CheckProgress | undefined;
}

export interface CheckResult {
  readonly findings: readonly Finding[];
  /** Findings beyond those listed, by code. */
  readonly omitted: Partial<Record<FindingCode, number>>;
  readonly examined: Examined;
  /** What could not be checked, and why. */
  readonly notChecked: readonly string[];
  /** No finding but notes. */
  readonly clean: boolean;
}

/** A check with what it went by, for a repair. */
export interface Examination {
  readonly context: CheckContext;
  readonly header: Header;
  readonly chain: CheckedChain;
  /** Where the log was walked from, and what was found there; undefined when nothing says where it begins. */
  readonly log: { readonly start: Position; readonly facts: LogFacts } | undefined;
  readonly result: CheckResult;
}

/**
 * @throws PcacheError TRUNCATED when the device cannot even hold the metadata, NOT_PCACHE or UNSUPPORTED when
 * it is not a cache. What the medium cannot read is a finding.
 */
export function checkCache(reader: PmemReader, options: CheckOptions): CheckResult {
  return examine(reader, options).result;
}

/** As `checkCache`. */
export function examine(reader: PmemReader, options: CheckOptions): Examination {
  if (reader.sizeBytes < SEGMENTS_OFFSET_BYTES) {
    throw new PcacheError(
      'TRUNCATED',
      `${reader.path}: only ${reader.sizeBytes} bytes, too short for a pcache; give the whole cache device or image`,
    );
  }
  const examined = nothingExamined();
  const tolerant = new TolerantReader(reader);
  const findings = new Findings();
  const context: CheckContext = {
    source: new CountingReader(tolerant, examined, options.threads ?? checkThreads()),
    geometry: options.geometry,
    findings,
    examined,
    backingBytes: options.backingBytes ?? Infinity,
    generationUpdatesMax: 1,
    dataCrc: undefined,
    crc: options.crc ?? crc32cRaw,
    payloadMapBytes: options.payloadMapBytes ?? PAYLOAD_MAP_BYTES,
  };
  const header = checkHeader(context, reader.path);
  context.dataCrc = header.flags?.dataCrc;
  if (isMadeBy618(context.source, context.geometry, header.room))
    context.generationUpdatesMax = header.found.attachesMax;
  const chain = checkChain(context, header.firstSegmentId, header.segmentCount, header.room);
  const notChecked: string[] = [];
  const log = checkTheLog(context, chain, header, options, notChecked);
  explainCut(context, reader.path, header, chain, log?.facts);
  reportUnreadable(context, chain, log?.facts, tolerant.unreadable);
  const clean = findings.list.every((finding) => finding.severity === 'note');
  const result = { findings: findings.list, omitted: findings.omitted, examined, notChecked, clean };
  return { context, header, chain, log, result };
}

/** @param notChecked takes what could not be checked. */
function checkTheLog(
  context: CheckContext,
  chain: CheckedChain,
  header: Header,
  options: CheckOptions,
  notChecked: string[],
): Examination['log'] {
  if (options.backingBytes === undefined) {
    notChecked.push('whether keys lie within the backing device: it was not given');
  }
  const checkPayload = options.data && header.flags?.dataCrc === true;
  if (!options.data) notChecked.push('payload: it was not asked for');
  else if (header.flags === undefined)
    notChecked.push('payload: cache_info is lost, which says whether there are CRCs');
  else if (!checkPayload) notChecked.push('payload: the cache has no data_crc, so nothing says what it should be');

  const start = chooseLogStart(context, chain, header.keyTail, header.dirtyTail);
  if (start === undefined) {
    notChecked.push('the log: where it begins is lost');
    reportUnreachable(context, chain);
    return undefined;
  }
  const { onProgress } = options;
  const totalBytes = onProgress === undefined ? 0 : expectedBytes(context, chain, start, checkPayload);
  const facts = checkLog(context, chain, {
    start,
    dirtyTail: header.dirtyTail,
    segmentCount: header.segmentCount,
    checkPayload,
    onProgress: () => onProgress?.(context.examined.bytesRead, totalBytes),
  });
  checkLogEnd(context, chain, facts);
  checkLogLost(context, chain, facts, header);
  const { keyTail, dirtyTail } = header;
  if (keyTail !== undefined && dirtyTail !== undefined) checkDirtyTail(context, chain, facts, start, dirtyTail);
  if (keyTail === undefined) notChecked.push(`the log before ${positionText(start)}: key_tail is lost`);
  return { start, facts };
}
