/**
 * Measures requests in rounds: the engine through its public API, then a native loop that does the same
 * round's copies and nothing else, on the same map, at the same addresses, with the same instructions: the
 * limit. The limit takes one request after the other, each write with a fence of its own; with a depth above
 * one a third loop does the copies in groups, as the engine may. They alternate, so that whatever else goes on
 * on the machine meets all.
 *
 * A round is as long as there is room for without write-back; between two rounds, unmeasured, everything is
 * written back and collected. The limit's copies of writes go where the engine's went, and hold the same
 * bytes, so they change nothing.
 */
import { performance } from 'node:perf_hooks';
import type { MappedPmem } from '../engine/device/mapped.js';
import type { Arena, CopyList } from '../engine/device/pmem.js';
import { assert, PcacheError } from '../engine/errors.js';
import { Op, RequestFlag, type RequestGroup } from '../engine/index.js';
import { Plan, type PatternSource } from './pattern.js';
import { plainLoopNs } from './plain-loop.js';

// Constants of the loop that is measured, not to be looked up in it.
const { read: READ, write: WRITE } = Op;

/** One request of so many, with its group, is timed for the latency: the clock must not count in the rate. */
const TIMED_EVERY = 64;
const LATENCIES_MAX = 1_000_000;

export interface Round {
  readonly requests: number;
  readonly engineNs: number;
  readonly limitNs: number;
  /** The limit's copies in groups of `depth`: a fence a group, reads asked for ahead. */
  readonly groupedNs: number;
  /** What the plain loop took before, between and after these, the longest. */
  readonly plainLoopNs: number;
}

/** What the rounds run on: a whole cache, or one thread's part of it. */
export interface RoundsRig {
  readonly pmem: MappedPmem;
  readonly cache: { submit(group: RequestGroup): number; locate(offsetBytes: number): number; holdWriteback: boolean };
  readonly driver: { drain(): Promise<void>; kick(): void };
  readonly arena: Arena;
  readonly group: RequestGroup;
}

export interface RoundsOptions {
  readonly rig: RoundsRig;
  readonly source: PatternSource;
  readonly blockBytes: number;
  readonly depth: number;
  /** Every so many writes one is FUA; 0 for none. */
  readonly fuaEvery: number;
  /** Of the longest round. */
  readonly requestsMax: number;
  /** Processor time of this process so far, ns. */
  readonly cpuNs: () => number;
  /** Where several threads measure at once: returns when all are here. */
  readonly meet?: () => void;
}

export class Rounds {
  readonly rounds: Round[] = [];
  /** Nanoseconds from submit to acknowledgement, of every so many groups. */
  readonly latenciesNs: number[] = [];
  /** Processor time of the engine's part, all threads, ns. */
  cpuNs = 0;
  private readonly plan: Plan;
  private readonly list: CopyList;
  private writes = 0;
  private lastWhole = -1;

  constructor(private readonly options: RoundsOptions) {
    this.plan = new Plan(options.requestsMax);
    this.list = options.rig.pmem.createCopyList(options.requestsMax);
  }

  /** Forgets what was measured so far: the machine has warmed up. */
  forget(): void {
    this.rounds.length = 0;
    this.latenciesNs.length = 0;
    this.cpuNs = 0;
  }

  /** One round of each, of so many requests, `requestsMax` at most. */
  async run(requests: number): Promise<void> {
    const { rig, source, depth } = this.options;
    const { cache, driver } = rig;
    await driver.drain();
    source.fill(this.plan, requests, (offset) => cache.locate(offset) >= 0);
    this.listReads();
    cache.holdWriteback = true;
    const loopBeforeNs = plainLoopNs();
    this.options.meet?.();
    const cpuBefore = this.options.cpuNs();
    const engineNs = this.timed(() => this.engine());
    this.cpuNs += this.options.cpuNs() - cpuBefore;
    const loopBetweenNs = plainLoopNs();
    this.listWrites();
    const limit = (group: number) => {
      this.options.meet?.();
      return this.timed(() => rig.pmem.limitCopies(this.list, requests, rig.arena, group, this.plan.isRead));
    };
    const limitNs = limit(1);
    const groupedNs = depth === 1 ? limitNs : limit(depth);
    cache.holdWriteback = false;
    driver.kick();
    const longest = Math.max(loopBeforeNs, loopBetweenNs, plainLoopNs());
    this.rounds.push({ requests, engineNs, limitNs, groupedNs, plainLoopNs: longest });
  }

  /**
   * Nanoseconds that `body` takes. Of several threads the first to begin waits for the last to end: the longest of
   * their times is that of all.
   */
  private timed(body: () => void): number {
    const started = performance.now();
    body();
    this.options.meet?.();
    return (performance.now() - started) * 1e6;
  }

  private engine(): void {
    const { rig, blockBytes, depth, fuaEvery } = this.options;
    const { cache, group } = rig;
    const { count, isRead, offsetBytes } = this.plan;
    const timedEvery = Math.max(1, Math.floor(TIMED_EVERY / depth));
    let untilTimed = 1; // groups
    for (let i = 0; i < count;) {
      group.clear();
      for (let k = 0; k < depth && i < count; k++, i++) {
        if (isRead[i] !== 0) group.add(READ, offsetBytes[i], blockBytes, k * blockBytes);
        else
          group.add(WRITE, offsetBytes[i], blockBytes, k * blockBytes, fuaEvery > 0 ? this.flagsOfNext(fuaEvery) : 0);
      }
      let pending: number;
      if (--untilTimed === 0) {
        untilTimed = timedEvery;
        const started = performance.now();
        pending = cache.submit(group);
        if (this.latenciesNs.length < LATENCIES_MAX) this.latenciesNs.push((performance.now() - started) * 1e6);
      } else {
        pending = cache.submit(group);
      }
      if (pending > 0 || group.errors[0] !== undefined) this.giveUp();
    }
  }

  private flagsOfNext(fuaEvery: number): number {
    return ++this.writes % fuaEvery === 0 ? RequestFlag.fua : 0;
  }

  private giveUp(): never {
    const { group, pmem } = this.options.rig;
    throw (
      group.errors[0] ??
      new PcacheError('TOO_SMALL', `${pmem.path}: too small for one round; use a larger cache or smaller blocks`)
    );
  }

  /** Where the limit finds what the engine reads: before the engine's round, which may move it. */
  private listReads(): void {
    const { plan, list } = this;
    const { blockBytes, depth } = this.options;
    for (let i = 0; i < plan.count; i++) {
      list.arenaOffsetBytes[i] = (i % depth) * blockBytes;
      list.lengthBytes[i] = blockBytes;
      if (plan.isRead[i]) list.pmemOffsetBytes[i] = this.payloadOffsetOf(plan.offsetBytes[i]);
    }
  }

  /** Where the limit writes: where the engine has just written. */
  private listWrites(): void {
    const { plan, list } = this;
    for (let i = 0; i < plan.count; i++) {
      if (!plan.isRead[i]) list.pmemOffsetBytes[i] = this.payloadOffsetOf(plan.offsetBytes[i]);
    }
  }

  /** Where a block lies. One that is in two pieces, at the end of a segment, is stood for by another. */
  private payloadOffsetOf(offsetBytes: number): number {
    const { cache } = this.options.rig;
    const last = this.options.blockBytes - 1;
    const at = cache.locate(offsetBytes);
    assert(at >= 0, 'a block that was just written, or is to be read, is not cached');
    if (this.lastWhole < 0 || cache.locate(offsetBytes + last) === at + last) this.lastWhole = at;
    return this.lastWhole;
  }
}
