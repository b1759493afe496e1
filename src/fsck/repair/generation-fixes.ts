/**
 * Repairs of segment generations (format §1 "Generation"). A generation that is lost, or that is earlier or
 * later than what the log shows it to be, follows from the keys: nothing is collected before it is written
 * back, so every key from dirty_tail on carries the present generation of its segment.
 */
import { decodeGeneration, encodeGeneration, GENERATION_BYTES, type Generation } from '../../engine/media/codecs.js';
import { readDual, type Dual } from '../../engine/media/dual.js';
import { generationCopies } from '../../engine/media/geometry.js';
import type { KsetView } from '../../engine/media/kset.js';
import { judgeDual } from '../check-copies.js';
import { rewriteLostCopy, rewriteBoth } from './rewrite-copies.js';
import { checksPayload, isAt, payloadMatches, walkLog } from './log-walk.js';
import { hasFinding, type Fix, type PlanView } from './types.js';

/** Generations beyond this are taken for garbage: no cache frees a segment that often. */
const PLAUSIBLE_GENERATION = 2 ** 48;

function readGeneration(view: PlanView, logical: number): Dual<Generation> {
  const copies = generationCopies(view.context.geometry, view.chain.physicalId[logical]);
  return readDual<Generation>(view.context.source, copies, GENERATION_BYTES, decodeGeneration);
}

/** Is the newest generation of a segment perhaps gone? A copy of it is lost, or out of step. */
export function isGenerationInDoubt(view: PlanView, logical: number): boolean {
  return judgeDual(readGeneration(view, logical), 1) !== 'good';
}

/** Copies that are lost or out of step, where the other one stands. */
export function planGenerationCopies(view: PlanView): Fix[] {
  if (!hasFinding(view, 'GENERATION_COPY_LOST', 'GENERATION_SEQ_SUSPECT')) return [];
  const fixes: Fix[] = [];
  for (let logical = 0; logical < view.chain.length; logical++) {
    const dual = readGeneration(view, logical);
    const verdict = judgeDual(dual, 1);
    if (verdict === 'good' || verdict === 'lost') continue;
    fixes.push({
      id: `copy ${dual.offsets[0]}`,
      codes: [verdict === 'seq-suspect' ? 'GENERATION_SEQ_SUSPECT' : 'GENERATION_COPY_LOST'],
      action: `write copy ${1 - dual.winner} of the generation of segment ${logical} again from copy ${dual.winner}`,
      consent: 'plain',
      losses: [],
      steps: rewriteLostCopy(view.context, dual, GENERATION_BYTES),
    });
  }
  return fixes;
}

/** What the keys of the log say of one segment. */
interface Witness {
  keys: number;
  highest: number;
  /** Of keys from dirty_tail on. */
  dirtyKeys: number;
  dirtyLowest: number;
  dirtyHighest: number;
  /** Of the last of those. */
  payloadMatches: boolean;
}

function hearKeys(view: PlanView): Map<number, Witness> {
  const { chain, context, header, log } = view;
  const witnesses = new Map<number, Witness>();
  if (log === undefined) return witnesses;
  let dirty = header.dirtyTail === undefined;
  walkLog(view, log.start, (kset, position) => {
    if (isAt(position, header.dirtyTail)) dirty = true;
    for (let index = 0; index < kset.keyCount; index++) {
      if (kset.keyProblem(index, context.geometry, chain.length, context.backingBytes) !== '') continue;
      hearKey(view, witnesses, kset, index, dirty);
    }
  });
  return witnesses;
}

function hearKey(view: PlanView, witnesses: Map<number, Witness>, kset: KsetView, index: number, dirty: boolean): void {
  const segment = kset.keySegment(index);
  const generation = kset.keyGeneration(index);
  if (generation >= PLAUSIBLE_GENERATION) return;
  let witness = witnesses.get(segment);
  if (witness === undefined) {
    witness = { keys: 0, highest: 0, dirtyKeys: 0, dirtyLowest: Infinity, dirtyHighest: 0, payloadMatches: true };
    witnesses.set(segment, witness);
  }
  witness.keys++;
  witness.highest = Math.max(witness.highest, generation);
  if (!dirty) return;
  witness.dirtyKeys++;
  witness.dirtyLowest = Math.min(witness.dirtyLowest, generation);
  witness.dirtyHighest = Math.max(witness.dirtyHighest, generation);
  const stale = generation < view.chain.generation[segment];
  if (stale && checksPayload(view)) witness.payloadMatches = payloadMatches(view, kset, index);
}

/** Generations that are lost, or that the keys show to be wrong. */
export function planGenerations(view: PlanView): Fix[] {
  if (!hasFinding(view, 'GENERATION_LOST', 'KEY_FROM_FUTURE', 'KEY_STALE_DIRTY')) return [];
  const { chain } = view;
  const witnesses = hearKeys(view);
  const fixes: Fix[] = [];
  const isMostlyStale = staleShare(view, witnesses) > 1 / 2;
  // Keys of dead ksets that are in the log again have earlier generations rightly, unless their payload is there.
  const trustsLog = checksPayload(view) || !(view.options.logRelinked || holdsDead(witnesses));
  const trustsKeys = trustsLog && !isMostlyStale && !view.options.dirtyTailAssumed;
  let highestKnown = 0;
  for (let logical = 0; logical < chain.length; logical++) {
    highestKnown = Math.max(highestKnown, Math.min(chain.generation[logical], PLAUSIBLE_GENERATION));
  }
  for (let logical = 0; logical < chain.length; logical++) {
    const dual = readGeneration(view, logical);
    const witness = witnesses.get(logical);
    const fix =
      dual.value === undefined
        ? assume(logical, dual, witness, highestKnown)
        : witness && correct(logical, dual, dual.value.generation, witness, trustsKeys);
    if (fix !== undefined) fixes.push(fix);
  }
  return fixes;
}

/**
 * Are there dead ksets in the log from dirty_tail on? Keys of one segment have one generation there, which is the present
 * one, whatever is written for it; blocks that changed places bring in others.
 */
function holdsDead(witnesses: ReadonlyMap<number, Witness>): boolean {
  return [...witnesses.values()].some((witness) => witness.dirtyKeys > 0 && witness.dirtyLowest < witness.dirtyHighest);
}

function assume(logical: number, dual: Dual<Generation>, witness: Witness | undefined, highestKnown: number): Fix {
  let generation = highestKnown;
  let assumed = 'no key points into the segment, so any will do that none had';
  if (witness !== undefined && witness.dirtyKeys > 0) {
    generation = witness.dirtyHighest;
    assumed = 'the highest that keys which are not written back have';
  } else if (witness !== undefined) {
    generation = witness.highest;
    assumed = 'the highest that its keys have';
  }
  return {
    id: `generation ${logical}`,
    codes: ['GENERATION_LOST'],
    action: `write generation ${generation} for segment ${logical}`,
    assumed,
    consent: 'plain',
    losses: [],
    steps: rewriteBoth(dual, (seq) => encodeGeneration(generation, seq)),
  };
}

/** How many of the segments that keys from dirty_tail on point to are later than all of these. */
function staleShare(view: PlanView, witnesses: ReadonlyMap<number, Witness>): number {
  const dirty = [...witnesses].filter(([, witness]) => witness.dirtyKeys > 0);
  const stale = dirty.filter(([logical, witness]) => witness.highest < view.chain.generation[logical]);
  return dirty.length === 0 ? 0 : stale.length / dirty.length;
}

/** @param trustsKeys the log, and dirty_tail in it, are as they should be: then keys from there on are evidence */
function correct(
  logical: number,
  dual: Dual<Generation>,
  present: number,
  witness: Witness,
  trustsKeys: boolean,
): Fix | undefined {
  const base = { consent: 'plain', losses: [] } as const;
  const write = (generation: number) => ({
    id: `generation ${logical} ${generation}`,
    action: `write generation ${generation} for segment ${logical}, which is at ${present}`,
    steps: rewriteBoth(dual, (seq) => encodeGeneration(generation, seq)),
  });
  // Keys of the present generation that are not written back yet show that it is the right one.
  if (witness.highest > present && !(witness.dirtyKeys > 0 && witness.dirtyLowest <= present)) {
    const assumed = 'the highest that its keys have';
    return { ...base, ...write(witness.highest), codes: ['KEY_FROM_FUTURE'], assumed };
  }
  if (trustsKeys && witness.dirtyKeys > 0 && witness.highest < present && witness.payloadMatches) {
    const assumed = 'the highest that its keys have, since those that are not written back cannot have been collected';
    return { ...base, ...write(witness.dirtyHighest), codes: ['KEY_STALE_DIRTY'], assumed };
  }
  return undefined;
}
