/**
 * Tells a log that is gone from one that is empty or has just moved on (format §2). The medium looks the same where
 * zeroes replaced the log, so this goes by what surrounds it: payload that no key names, a segment of the log whose
 * metadata are gone too, and blank bytes where the ksets before key_tail must be.
 */
import { KSET_HEADER_BYTES } from '../engine/media/kset.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';
import { positionText } from '../engine/media/position-text.js';
import type { Header } from './header.js';
import type { LogFacts } from './log-check.js';
import { PayloadMap } from './payload-map.js';
import { zeroBytesAt } from './orphan-ksets.js';
import { findUnnamedPayload, type UnnamedPayload } from './unnamed-payload.js';

/** Reports a log, or an end of one, that is gone. Of lost tails the repair of these judges the same. */
export function checkLogLost(context: CheckContext, chain: CheckedChain, facts: LogFacts, header: Header): void {
  // What follows the end of the log is dealt with first.
  const goesOn = context.findings.has('LOG_CUT_SHORT') || context.findings.has('LOG_MAYBE_CUT_SHORT');
  if (header.keyTail === undefined || goesOn) return;
  const { end } = facts;
  const sign = signOfLoss(context, chain, facts);
  if (sign === undefined) return;
  const unnamed = findUnnamedPayload(context, chain, facts);
  if (sign === 'never-moved' ? unnamed.full.length === 0 : unnamed.segments.length === 0) return;
  const detail = `${SIGNS[sign]}, but ${unnamedText(unnamed)}`;
  context.findings.add('LOG_LOST', `kset ${positionText(end)}`, detail);
}

/** Reports payload of a cache that says nowhere where its log begins, and has no kset where a new log would begin. */
export function reportUnreachable(context: CheckContext, chain: CheckedChain): void {
  const nothing = { extents: new Map(), payload: new PayloadMap(context.geometry) };
  const written = findUnnamedPayload(context, chain, nothing);
  if (written.segments.length === 0) return;
  const detail = `both tails are lost, no kset begins at 0:0, and ${unnamedText(written)} that can be reached`;
  context.findings.add('LOG_LOST', 'log', detail);
}

export function unnamedText({ segments, bytes }: UnnamedPayload): string {
  const many = segments.length === 1 ? '1 segment' : `${segments.length} segments`;
  return `about ${bytes} bytes of payload in ${many} are named by no key`;
}

type Sign = 'segment-lost' | 'nothing-before' | 'never-moved';

const SIGNS: Readonly<Record<Sign, string>> = {
  'segment-lost': 'the log ends in a segment whose info and generation are lost',
  'nothing-before': 'the log is empty, and blank before its beginning, where a kset must end',
  'never-moved': 'the log is empty, and was never collected',
};

function signOfLoss(context: CheckContext, chain: CheckedChain, { end, ksetCount }: LogFacts): Sign | undefined {
  if (chain.lost.has(end.segment)) return 'segment-lost';
  if (ksetCount > 0) return undefined;
  if (end.offsetBytes === 0) return 'never-moved';
  const before = { segment: end.segment, offsetBytes: end.offsetBytes - KSET_HEADER_BYTES };
  const isBlank = zeroBytesAt(context, chain, before, KSET_HEADER_BYTES) === KSET_HEADER_BYTES;
  return isBlank ? 'nothing-before' : undefined;
}
