/**
 * Gives up what a lost log named. Its segments are freed as a collection would free them, by a later generation, and
 * blanked at their beginning as creation leaves them, so that they are no evidence of a lost log any more.
 */
import {
  decodeGeneration,
  encodeGeneration,
  GENERATION_BYTES,
  SEGMENT_INFO_BYTES,
  type Generation,
} from '../../engine/media/codecs.js';
import { readDual } from '../../engine/media/dual.js';
import { generationCopies, segmentInfoCopies } from '../../engine/media/geometry.js';
import { KSET_HEADER_BYTES } from '../../engine/media/kset.js';
import { positionText } from '../../engine/media/position-text.js';
import { segmentsBeyond } from '../chain.js';
import type { LogFacts } from '../log-check.js';
import { unnamedText } from '../lost-log.js';
import { findUnnamedPayload, type UnnamedPayload } from '../unnamed-payload.js';
import { rewriteBoth } from './rewrite-copies.js';
import { hasFinding, type Change, type Fix, type Loss, type PlanView } from './types.js';

/** What the surviving log does not name may be lost, all of it. */
export function lossOfUnnamed(where: string, unnamed: UnnamedPayload): Loss {
  const holes = unnamed.holeBytes === 0 ? '' : `, and ${unnamed.holeBytes} bytes between those that keys name`;
  const named = unnamed.segments.length === 0 ? '' : ` (${unnamedText(unnamed)}${holes})`;
  const reason = `everything cached that the surviving log does not name may be gone${named}`;
  return { kind: 'perhaps-lost', where, reason, ranges: [], mayBeMore: true };
}

/** Raises the generations of segments that no key names, and blanks the beginning of their data areas. */
export function freeingUnnamed(view: PlanView, { segments }: UnnamedPayload): Change[][] {
  const { chain, context } = view;
  return segments.flatMap((segment) => {
    const copies = generationCopies(context.geometry, chain.physicalId[segment]);
    const dual = readDual<Generation>(context.source, copies, GENERATION_BYTES, decodeGeneration);
    const next = (dual.value?.generation ?? 0) + 1;
    const blank = { offsetBytes: chain.dataOffsetBytes[segment], bytes: new Uint8Array(KSET_HEADER_BYTES) };
    return [...rewriteBoth(dual, (seq) => encodeGeneration(next, seq)), [blank]];
  });
}

/** A larger cache that a smaller one lies over. */
export function planBeyond(view: PlanView): Fix[] {
  const { context, header } = view;
  if (!hasFinding(view, 'SEGMENTS_BEYOND_CACHE')) return [];
  const beyond = segmentsBeyond(context, header.segmentCount, header.room);
  const reason = 'a larger cache was here, and what it held behind the smaller one is given up';
  return [
    {
      id: `clear infos from ${beyond[0]}`,
      codes: ['SEGMENTS_BEYOND_CACHE'],
      action: `clear the infos of ${beyond.length} segments behind those of the cache`,
      consent: 'accept-loss',
      losses: [{ kind: 'perhaps-lost', where: `physical segment ${beyond[0]}`, reason, ranges: [], mayBeMore: true }],
      steps: [
        beyond.flatMap((id) =>
          segmentInfoCopies(context.geometry, id).map((offsetBytes) => ({
            offsetBytes,
            bytes: new Uint8Array(SEGMENT_INFO_BYTES),
          })),
        ),
      ],
    },
  ];
}

/** A log that is gone behind a good key_tail. */
export function planLogLost(view: PlanView): Fix[] {
  const { log } = view;
  if (log === undefined || !hasFinding(view, 'LOG_LOST')) return [];
  return [giveUpUnnamed(view, log.facts, `kset ${positionText(log.facts.end)}`)];
}

function giveUpUnnamed(view: PlanView, facts: LogFacts, where: string): Fix {
  const unnamed = findUnnamedPayload(view.context, view.chain, facts);
  return {
    id: `give up ${unnamed.segments.map((segment) => view.chain.physicalId[segment]).join()}`,
    codes: ['LOG_LOST'],
    action: `free ${unnamed.segments.length} segments that no key of the log names, and go on with the log that is left`,
    consent: 'accept-loss',
    losses: [lossOfUnnamed(where, unnamed)],
    steps: freeingUnnamed(view, unnamed),
  };
}
