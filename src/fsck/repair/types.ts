/** What repairs are made of: changes to the device, what they assume, and what is lost with them. */
import type { Pmem } from '../../engine/device/pmem.js';
import type { FindingCode } from '../catalogue.js';
import type { Examination } from '../check.js';
import type { ByteRange } from './ranges.js';

/** The part of a cache device that a repair needs. */
export type RepairDevice = Pick<
  Pmem,
  'path' | 'sizeBytes' | 'read' | 'crc32c' | 'write' | 'writeOver' | 'persist' | 'close'
>;

export interface Change {
  readonly offsetBytes: number;
  readonly bytes: Uint8Array;
}

/**
 * `lost`: what was written there last is gone. `perhaps-lost`: it is, unless the range is not what the damage
 * was about, or was never acknowledged.
 */
export type LossKind = 'lost' | 'perhaps-lost';

export interface Loss {
  readonly kind: LossKind;
  /** Where it was: `kset 0:5144`. */
  readonly where: string;
  /** One clause: why. */
  readonly reason: string;
  /** Ranges of the logical device that read as an older version now, or as the backing device. */
  readonly ranges: readonly ByteRange[];
  /** What names the ranges is damaged itself, so there may be others. */
  readonly mayBeMore: boolean;
}

/**
 * What it takes to make a repair. `plain`: yes. `drop-corrupt`: that data may be dropped of which nothing better is
 * left. `accept-loss`: that everything which the surviving log does not name may be lost. `data-crc`: that the user
 * says whether the cache has data_crc.
 */
export type Consent = 'plain' | 'drop-corrupt' | 'accept-loss' | 'data-crc';

export interface Fix {
  /** Tells this repair from every other; a repair that is made and needed again does not help. */
  readonly id: string;
  readonly codes: readonly FindingCode[];
  /** What is done, as an order: `write copy 1 of key_tail again from copy 0`. */
  readonly action: string;
  /** What was assumed, where the media do not say; a clause. */
  readonly assumed?: string;
  readonly consent: Consent;
  readonly losses: readonly Loss[];
  /**
   * Made in a round of its own, after all others of its plan: it copies parts of the log as they were when planned, or
   * takes a segment that was free then, and another repair of the same plan may change either.
   */
  readonly isAlone?: boolean;
  /** Made one after the other, each durable before the next; within one there is no order. */
  readonly steps: readonly (readonly Change[])[];
}

export interface PlanOptions {
  /** Whether payload may be checked, where the cache has data_crc. */
  readonly data: boolean;
  /** Ksets behind the end of the log that may be left from an earlier cache are linked to it, not blanked. */
  readonly relinkDoubtful: boolean;
  /** Whether the cache has data_crc, as the user says, for where nothing else tells. */
  readonly dataCrc?: boolean | undefined;
  /** This repair has set dirty_tail: what it says is an assumption, and no evidence. */
  readonly dirtyTailAssumed: boolean;
  /** This repair has led the log on to ksets that it did not lead to: some may be dead, and no evidence. */
  readonly logRelinked: boolean;
  /** Whether the repair of this id was made or declined: a planner need not plan it, where that takes long. */
  readonly isSettled: (id: string) => boolean;
}

/** What a planner works from: a check without payload. */
export interface PlanView extends Examination {
  readonly options: PlanOptions;
}

/** Looks at one kind of damage. @returns repairs that do not depend on one another; none when all is well. */
export type Planner = (view: PlanView) => Fix[];

export function hasFinding(view: PlanView, ...codes: FindingCode[]): boolean {
  return codes.some((code) => view.context.findings.has(code));
}
