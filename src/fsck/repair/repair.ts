/**
 * Repairs a cache: checks it, plans what can be done about the first kind of damage, asks, writes the undo file,
 * makes the changes, and checks again, until nothing is left that a repair helps against. Callable as a library;
 * knows no terminal.
 *
 * Order: what other repairs go by comes first (the chain, cache_info, generations, the log, its tails), keys and
 * payload then, and the superblock last, since with it the cache attaches. Before a change is begun its old bytes
 * are durable in the undo file; a change is durable before the next one that relies on it. Bounded: no repair is
 * made twice, and there are only so many rounds.
 */
import { storeOrWriteOver } from '../../engine/device/write-over.js';
import { TolerantReader } from '../../engine/device/tolerant-reader.js';
import { PcacheError } from '../../engine/errors.js';
import type { CheckOptions, CheckResult, Examination } from '../check.js';
import { examine } from '../check.js';
import { planGenerations, planGenerationCopies } from './generation-fixes.js';
import { planCacheInfo, planLostCacheInfo, planSuperblock } from './header-fixes.js';
import { planKeys } from './key-fixes.js';
import { planBeyond, planLogLost } from './lost-log-fixes.js';
import { planLogEnd } from './log-fixes.js';
import { saysAnything, summarizeLosses, type LossSummary } from './losses.js';
import { planSegments } from './segment-fixes.js';
import { planDirtyTail, planKeyTail, planTailCopies } from './tail-fixes.js';
import type { Change, Fix, Planner, PlanView, RepairDevice } from './types.js';
import type { UndoLog } from './undo-file.js';

/** Each round makes at least one repair; a log with more breaks than this is beyond repair. */
const ROUNDS_MAX = 1000;

const STRUCTURE: readonly Planner[] = [
  // Before the metadata that are evidence of it are written again.
  planBeyond,
  planLogLost,
  planSegments,
  planCacheInfo,
  planTailCopies,
  // Before the generations: which of them are in doubt is to be seen then.
  planKeyTail,
  planGenerationCopies,
  planLogEnd,
  planDirtyTail,
  planLostCacheInfo,
  planGenerations,
  planKeys,
];

/** What the ids of repairs begin with that lead the log on to ksets behind its end. */
const RELINKS = ['bridge ', 'relocate ', 'widen ', 'hop '];

/** What becomes of a repair that is offered. */
export type Answer = 'yes' | 'no' | 'stop';

export interface RepairOptions extends CheckOptions {
  readonly device: RepairDevice;
  readonly undo: UndoLog;
  /** Ksets that may be left from an earlier cache are linked to the log again. */
  readonly relinkDoubtful: boolean;
  /** Whether the cache has data_crc, for where nothing on the device tells. */
  readonly dataCrc?: boolean | undefined;
  /** Asked before each repair, in the order they are made. */
  readonly ask: (fix: Fix) => Answer | Promise<Answer>;
  /** Told of the check before, when there is something to repair or not. */
  readonly onChecked?: (result: CheckResult) => void;
  /** Told of each repair when it has been made. */
  readonly onFixed?: (fix: Fix) => void;
}

export interface RepairResult {
  /** The check before. */
  readonly before: CheckResult;
  /** The check afterwards. */
  readonly after: CheckResult;
  readonly made: readonly Fix[];
  readonly declined: readonly Fix[];
  /** What the repairs that were made lost, or may have. */
  readonly losses: LossSummary;
  /** `ask` said so. */
  readonly stopped: boolean;
}

/** @throws PcacheError as `checkCache` and the device do, and when the undo file cannot be written */
export async function repairCache(options: RepairOptions): Promise<RepairResult> {
  return new Repair(options).run();
}

/** Nothing is left but notes that no repair is for. */
function isDone({ findings }: CheckResult): boolean {
  return findings.every(({ severity, repair }) => severity === 'note' && repair === undefined);
}

class Repair {
  private readonly made: Fix[] = [];
  private readonly declined: Fix[] = [];
  private readonly settled = new Set<string>();
  private stopped = false;
  /** A repair was declined that the others depend on. */
  private isOver = false;

  constructor(private readonly options: RepairOptions) {}

  async run(): Promise<RepairResult> {
    const { options } = this;
    const first = this.examine(options.data);
    options.onChecked?.(first.result);
    let view = first;
    for (let round = 0; round < ROUNDS_MAX && !isDone(view.result) && !this.stopped && !this.isOver; round++) {
      const fixes = this.plan(view);
      if (fixes.length === 0) break;
      await this.offer(fixes);
      view = this.examine(false);
      if (isDone(view.result)) view = this.examine(options.data);
    }
    if (this.made.length > 0) options.undo.finish();
    const after = this.made.length === 0 ? first.result : this.examine(options.data).result;
    const { made, declined, stopped } = this;
    return { before: first.result, after, made, declined, losses: summarizeLosses(made, declined), stopped };
  }

  private examine(data: boolean): Examination {
    return examine(this.options.device, { ...this.options, data });
  }

  /** The repairs of the first planner that has any which were not settled yet. */
  private plan(view: Examination): Fix[] {
    const { options } = this;
    const dirtyTailAssumed = this.made.some((fix) => fix.id.startsWith('dirty_tail '));
    const logRelinked = this.made.some((fix) => RELINKS.some((name) => fix.id.startsWith(name)));
    const { data, relinkDoubtful, dataCrc } = options;
    const isSettled = (id: string): boolean => this.settled.has(id);
    const planOptions = { data, relinkDoubtful, dataCrc, dirtyTailAssumed, logRelinked, isSettled };
    const first = (planners: readonly Planner[], planned: PlanView): Fix[] => {
      for (const planner of planners) {
        const fixes = planner(planned).filter((fix) => !this.settled.has(fix.id));
        const together = fixes.filter(({ isAlone }) => isAlone !== true);
        if (fixes.length > 0) return together.length > 0 ? together : fixes.slice(0, 1);
      }
      return [];
    };
    const structure = first(STRUCTURE, { ...view, options: planOptions });
    if (structure.length > 0) return structure;
    // Payload takes the longest to check, and says little before the log is in order.
    const whole: PlanView = { ...this.examine(options.data), options: planOptions };
    return first([planKeys, planSuperblock], whole);
  }

  private async offer(fixes: readonly Fix[]): Promise<void> {
    const accepted: Fix[] = [];
    for (const fix of fixes) {
      const answer = await this.options.ask(fix);
      if (answer === 'stop') {
        this.stopped = true;
        break;
      }
      this.settled.add(fix.id);
      if (answer === 'yes') accepted.push(fix);
      else this.declined.push(fix);
      // Further repairs would do away with what shows that a log is lost.
      if (answer === 'no' && fix.consent === 'accept-loss') this.isOver = true;
    }
    this.make(accepted);
  }

  private make(fixes: readonly Fix[]): void {
    const { device, onFixed } = this.options;
    if (fixes.length === 0) return;
    this.record(
      fixes.flatMap((fix) => fix.steps.flat()),
      fixes.some((fix) => fix.losses.some(saysAnything)),
    );
    for (const fix of fixes) {
      for (const step of fix.steps) {
        for (const change of step) storeOrWriteOver(device, change.offsetBytes, change.bytes);
        device.persist();
      }
      this.made.push(fix);
      onFixed?.(fix);
    }
  }

  /** A repair whose changes cannot all be recorded is not made in part: what was changed is undone. */
  private record(changes: readonly Change[], losing: boolean): void {
    const { device, undo } = this.options;
    try {
      undo.record(new TolerantReader(device), changes, losing);
    } catch (error) {
      undo.rollBack(device);
      if (!(error instanceof PcacheError)) throw error;
      const outcome = this.made.length > 0 ? 'every repair made so far was undone' : 'nothing was changed';
      const remedy = error.code === 'NO_SPACE' ? ', or put the undo file elsewhere with --undo FILE' : '';
      throw new PcacheError(error.code, `${error.message}${remedy}; ${outcome}`, { cause: error });
    }
  }
}
