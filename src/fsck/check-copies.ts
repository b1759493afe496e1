/**
 * Judges the two copies of a dual structure (format §1 "Metadata header") beyond which one counts: whether
 * one is gone, and whether their sequence numbers can follow from one another.
 *
 * A copy that is all zeroes was never written, or was wiped. It was never written when the other one carries
 * sequence number 1, the first; and for tails also when every attach so far made at most one update, because
 * the kernel writes the first one after an attach over the newest copy.
 */
import { seqAfter, type Dual } from '../engine/media/dual.js';
import type { CheckContext } from './context.js';

export interface CopiesState {
  readonly crcOk: readonly [boolean, boolean];
  readonly blank: readonly [boolean, boolean];
  /** Low 8 bits of the sequence numbers; meaningful where the CRC is good. */
  readonly seq: readonly [number, number];
}

export type CopiesVerdict = 'good' | 'lost' | 'copy-0-lost' | 'copy-1-lost' | 'seq-suspect';

/**
 * @param attachesMax for tails, how many times the cache can have been attached; 1 for what the kernel always
 * writes alternately.
 */
export function judgeCopies(state: CopiesState, attachesMax: number): CopiesVerdict {
  const [ok0, ok1] = state.crcOk;
  if (!ok0 && !ok1) return 'lost';
  if (ok0 && ok1) {
    const [a, b] = state.seq;
    const distance = seqAfter(a, b) ? (a - b) & 0xff : (b - a) & 0xff;
    return distance >= 1 && distance <= attachesMax ? 'good' : 'seq-suspect';
  }
  const winner = ok0 ? 0 : 1;
  const neverWritten =
    state.blank[1 - winner] &&
    (state.seq[winner] === 1 || (winner === 0 && attachesMax > 1 && state.seq[0] <= attachesMax));
  if (neverWritten) return 'good';
  return winner === 0 ? 'copy-1-lost' : 'copy-0-lost';
}

/** As `judgeCopies`, of a structure that was read. */
export function judgeDual(dual: Dual<unknown>, attachesMax: number): CopiesVerdict {
  const [first, second] = dual.copies;
  const state = { crcOk: [first.crcOk, second.crcOk], blank: dual.blank, seq: [first.seq, second.seq] } as const;
  return judgeCopies(state, attachesMax);
}

export type CopyPrefix = 'CACHE_INFO' | 'KEY_TAIL' | 'DIRTY_TAIL' | 'SEGMENT_INFO' | 'GENERATION';

/** Reports a lost copy and odd sequence numbers; that both copies are lost is for the caller, who knows more. */
export function checkCopies(
  context: CheckContext,
  prefix: CopyPrefix,
  where: string,
  dual: Dual<unknown>,
  attachesMax: number,
): void {
  const [first, second] = dual.copies;
  const { findings } = context;
  const verdict = judgeDual(dual, attachesMax);
  if (verdict === 'seq-suspect') {
    findings.add(`${prefix}_SEQ_SUSPECT`, where, `the copies carry the numbers ${first.seq} and ${second.seq}`);
  } else if (verdict === 'copy-0-lost' || verdict === 'copy-1-lost') {
    const lost = verdict === 'copy-0-lost' ? 0 : 1;
    const detail = `its CRC is wrong; copy ${1 - lost} carries the number ${dual.copies[1 - lost].seq}`;
    findings.add(`${prefix}_COPY_LOST`, `${where} copy ${lost}`, detail);
  }
}
