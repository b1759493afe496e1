/**
 * Says of a device that was cut, or copied in part, how large it must be, and whether anything that the log names is
 * missing with its end. A cache uses the end of its device last: what is cut off is often empty.
 */
import { cacheBytesFor } from '../engine/media/geometry.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';
import type { Header } from './header.js';
import type { LogFacts } from './log-check.js';

const CODES = ['DEVICE_TOO_SMALL', 'SUPERBLOCK_SEGMENTS_BEYOND_DEVICE'] as const;

/** Adds to the finding of a cut device what to do about it. */
export function explainCut(
  context: CheckContext,
  path: string,
  header: Header,
  chain: CheckedChain,
  facts: LogFacts | undefined,
): void {
  const { findings, geometry } = context;
  const code = CODES.find((one) => findings.has(one));
  if (code === undefined || (header.segmentCount <= header.room && code !== 'DEVICE_TOO_SMALL')) return;
  const extend = `"truncate -s ${cacheBytesFor(geometry, header.segmentCount)} ${path}"`;
  const missing = missingText(header, chain, facts);
  const repair = `"pcache fsck --repair ${missing === undefined ? '' : '--drop-corrupt '}${path}"`;
  const first = missing ?? 'nothing that the log names is missing';
  const outcome = missing === undefined ? 'restores every byte' : 'keeps the rest';
  findings.extend(code, `${first}: for an image, ${extend} and then ${repair} ${outcome}`);
}

/** What is known to be missing; undefined when nothing is. */
function missingText(header: Header, chain: CheckedChain, facts: LogFacts | undefined): string | undefined {
  const isBeyond = (place: Header['keyTail']): boolean => place !== undefined && place.segment >= chain.length;
  if (facts === undefined || isBeyond(header.keyTail) || isBeyond(header.dirtyTail)) return 'the log is missing';
  if (facts.endReason === 'last-out-of-range') return 'the end of the log is missing';
  if (facts.keysBeyond === 0) return undefined;
  return `the payload of ${facts.keysBeyond} key${facts.keysBeyond === 1 ? '' : 's'} is missing`;
}
