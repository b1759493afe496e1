/**
 * Runs a plan against the real engine on simulated devices, with the model as its judge: every read, every
 * crash state at every barrier, every recovery, and what a drain leaves on the backing device.
 */
import { PcacheError } from '../../src/engine/errors.js';
import { SECTOR_BYTES, SUBTREE_SECTORS } from '../../src/engine/media/geometry.js';
import { Op, RequestFlag, RequestState, type RequestGroup } from '../../src/engine/request/request-group.js';
import { Random } from '../../src/engine/sim/random.js';
import type { SimBacking } from '../../src/engine/sim/sim-backing.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { SimFailure, type Model } from './model.js';
import { Explorer } from './sim-explore.js';
import type { SimConfig, SimOp, SimPlan, SimRequest } from './sim-plan.js';
import { arenaMemory, Slot } from './sim-slot.js';
import { ThroughOracle } from './sim-through.js';
import { SimWorld, TURNS_MAX } from './sim-world.js';
import { describeContents, NOT_A_STAMP, readStamp, stamp } from './stamps.js';
import type { InspectedCache } from './inspected-cache.js';

const WORDS_PER_SECTOR = SECTOR_BYTES / 4;
const GROUPS = 6;
const POISON = 0x5a5a5a5a;

export interface SimResult {
  crashStates: number;
  drains: number;
  requests: number;
  crashes: number;
}

export interface SimOptions {
  /** Look at crash states at every barrier. True if not given. */
  readonly explores?: boolean;
  /** Each crash state also costs one copy of one dual structure. */
  readonly losesCopies?: boolean;
}

export class SimRun {
  readonly world: SimWorld;
  cache: InspectedCache;

  private readonly through: ThroughOracle | undefined;
  private readonly explorer: Explorer;
  private readonly explores: boolean;
  private slots: Slot[] = [];
  private random: Random;
  private errorsInjected = false;
  private requests = 0;
  private crashes = 0;

  constructor(
    private readonly config: SimConfig,
    options: SimOptions = {},
  ) {
    this.explores = options.explores ?? true;
    this.random = new Random(config.seed);
    this.world = new SimWorld(config);
    if (this.world.isThrough) this.through = new ThroughOracle(this.world);
    this.explorer = new Explorer(this.world, this.through, options.losesCopies ?? false);
    if (this.explores) this.pmem.onBarrier = () => this.explorer.explore(this.random);
    this.cache = this.world.open(this.pmem, this.backing, config.slots);
    this.makeSlots();
  }

  get pmem(): SimPmem {
    return this.world.pmem;
  }
  get backing(): SimBacking {
    return this.world.backing;
  }
  get model(): Model {
    return this.world.model;
  }
  get result(): SimResult {
    return { ...this.explorer.result, requests: this.requests, crashes: this.crashes };
  }

  private makeSlots(): void {
    this.slots = [];
    for (let n = 0; n < GROUPS; n++) {
      const slot = new Slot(this.pmem, arenaMemory(n));
      slot.group.onRequestDone = (_group, i) => {
        this.ended(slot, i);
        const { next } = slot;
        if (slot.group.pending > 0 || !next) return;
        slot.next = undefined;
        this.submitTo(slot, next);
      };
      this.slots.push(slot);
    }
  }

  // ---- operations -------------------------------------------------------------------------------------

  execute(op: SimOp): void {
    this.random = new Random(this.config.seed ^ Math.imul(op.id, 0x3c6ef372));
    switch (op.kind) {
      case 'submit':
        this.submit(op.requests, op.next);
        break;
      case 'step':
        for (let n = 0; n < op.times && this.cache.step(); n++);
        break;
      case 'answer':
        for (let n = 0; n < op.times && this.backing.underWay > 0; n++) this.answer(op);
        break;
      case 'clock':
        this.world.clock.advance(op.ms);
        break;
      case 'gcPercent':
        this.setGcPercent(op.percent);
        break;
      case 'settle':
        this.settle(() => this.pending === 0);
        break;
      case 'crash':
        this.crash(op.slots);
        break;
      case 'kill':
        this.kill(op.slots);
        break;
      case 'reopen':
        this.closeAndReopen(op.slots);
        break;
      case 'fail':
        this.pmem.fail(op);
        this.errorsInjected = true;
        break;
      case 'corrupt':
        this.world.corruption.strike(this.random);
        break;
    }
    if (this.cache.failure) this.stopped();
    else this.cache.check();
    this.world.corruption.expectNotPassed();
    if (!this.errorsInjected) this.through?.expectAllCurrent();
    if (this.config.mode === 'writeonly' && this.cache.stats.fills > 0) throw new SimFailure('writeonly has filled in');
  }

  private setGcPercent(percent: number): void {
    try {
      this.cache.setGcPercent(percent);
    } catch (error) {
      if (!(error instanceof PcacheError) || !this.errorsInjected) throw error;
    }
  }

  private answer({ error, flushError }: Pick<SimOp & { kind: 'answer' }, 'error' | 'flushError'> = {}): void {
    const which = this.random.below(this.backing.underWay);
    const code = error ?? (this.backing.kindOf(which) === 'flush' ? flushError : undefined);
    if (code) {
      this.errorsInjected = true;
      this.backing.finishWithError(which, this.random, code);
    } else {
      this.backing.finish(which);
    }
  }

  private get pending(): number {
    let pending = 0;
    for (const slot of this.slots) pending += slot.group.pending;
    return pending;
  }

  /** Steps and answers until `isOver`; nothing fails any more. */
  settle(isOver: () => boolean): void {
    for (let turn = 0; turn < TURNS_MAX; turn++) {
      if (isOver()) return;
      if (this.cache.step()) continue;
      if (this.backing.underWay > 0) this.answer();
      else if (isOver() || (this.cache.failure && this.pending === 0)) return;
      else if (this.cache.nextDeadlineMs < Infinity)
        this.world.clock.advance(Math.max(1, this.cache.nextDeadlineMs - this.world.clock.nowMs()));
      else throw new SimFailure(`stuck with ${this.pending} requests pending: ${this.cache.status().line}`);
    }
    throw new SimFailure(
      `no end after ${TURNS_MAX} turns, ${this.pending} requests pending: ${this.cache.status().line}`,
    );
  }

  submit(requests: readonly SimRequest[], next?: readonly SimRequest[]): void {
    const isFree = (slot: Slot) => slot.group.pending === 0;
    this.settle(() => this.slots.some(isFree));
    const slot = this.slots.find(isFree)!;
    slot.next = next;
    this.submitTo(slot, requests);
  }

  private submitTo(slot: Slot, requests: readonly SimRequest[]): void {
    const { group } = slot;
    group.clear();
    let at = 0;
    for (const request of requests) at += this.prepare(slot, request, at);
    slot.ended.fill(0);
    this.requests += group.count;
    const goesPast = this.config.mode === 'writearound' && requests.length === 1 && this.isOutside(requests[0]);
    this.cache.submit(group);
    if (goesPast && !this.isOutside(requests[0])) throw new SimFailure('a write to what is not cached is now cached');
    for (let i = 0; i < group.count; i++) {
      if (group.state[i] !== RequestState.pending && slot.ended[i] === 0) this.ended(slot, i);
    }
  }

  /** It is a write, and the cache holds nothing of its sectors. */
  private isOutside(request: SimRequest): boolean {
    if (request.op !== 'write') return false;
    const { index } = this.cache.parts;
    const end = request.sector + request.sectors;
    for (let subtree = Math.floor(request.sector / SUBTREE_SECTORS); subtree * SUBTREE_SECTORS < end; subtree++) {
      const start = subtree * SUBTREE_SECTORS;
      for (index.seek(subtree, Math.max(0, request.sector - start)); index.valid; index.advance()) {
        if (start + index.start >= end) break;
        if (!index.isEmpty && !index.isStale) return false;
      }
    }
    return true;
  }

  /** Puts a request into the group, its payload at byte `at` of the arena. @returns the payload's length */
  private prepare(slot: Slot, request: SimRequest, at: number): number {
    const { group, words } = slot;
    if (request.op === 'flush') {
      const i = group.add(Op.flush, 0, 0, 0);
      slot.tick[i] = this.model.submit();
      return 0;
    }
    const { sector, sectors } = request;
    const lengthBytes = sectors * SECTOR_BYTES;
    if (request.op === 'zero' || request.op === 'trim') {
      const flags = (request.fua ? RequestFlag.fua : 0) | (request.keepsSpace ? RequestFlag.keepsSpace : 0);
      const i = group.add(Op[request.op], sector * SECTOR_BYTES, lengthBytes, 0, flags);
      slot.writeId[i] = this.model.submitZeroes(sector, sectors);
      slot.tick[i] = this.model.tick;
      return 0;
    }
    if (request.op === 'read') {
      words.fill(POISON, at >>> 2, (at + lengthBytes) >>> 2);
      const i = group.add(Op.read, sector * SECTOR_BYTES, lengthBytes, at);
      slot.floors[i] = this.model.floors(sector, sectors);
      return lengthBytes;
    }
    const flags = (request.fua ? RequestFlag.fua : 0) | (request.preflush ? RequestFlag.preflush : 0);
    const i = group.add(Op.write, sector * SECTOR_BYTES, lengthBytes, at, flags);
    const id = this.model.submitWrite(sector, sectors);
    slot.writeId[i] = id;
    slot.tick[i] = this.model.tick;
    for (let n = 0; n < sectors; n++) stamp(words, (at >>> 2) + n * WORDS_PER_SECTOR, sector + n, id);
    return lengthBytes;
  }

  private ended(slot: Slot, i: number): void {
    const { group } = slot;
    if (slot.ended[i]) throw new SimFailure('a request ended twice');
    slot.ended[i] = 1;
    const op = group.op[i];
    if (group.state[i] === RequestState.failed) {
      if (op !== Op.read && op !== Op.flush) this.model.fail(slot.writeId[i]);
      if (!this.mayFail(group, i)) throw new SimFailure(`a request failed without cause: ${group.errors[i]?.message}`);
      return;
    }
    if (op === Op.read) {
      this.judgeRead(slot, i);
      return;
    }
    const isFua = (group.flags[i] & RequestFlag.fua) !== 0;
    const isFlush = op === Op.flush || (group.flags[i] & RequestFlag.preflush) !== 0;
    const writes = op === Op.write || op === Op.zero;
    if (writes) this.model.acknowledge(slot.writeId[i], isFua);
    if (op === Op.trim) this.model.fail(slot.writeId[i]); // it may have done nothing
    if (isFlush) this.model.flushed(slot.tick[i]);
    if (writes) this.through?.acknowledged(group.offsetBytes[i] / SECTOR_BYTES, group.lengthBytes[i] / SECTOR_BYTES);
    if (isFua || isFlush) this.through?.expectPromised();
  }

  /** Errors have causes: a device that failed, or what went bad on it. */
  private mayFail(group: RequestGroup, i: number): boolean {
    if (this.errorsInjected) return true;
    const { corruption } = this.world;
    if (!corruption.isAny) return false;
    if (group.op[i] !== Op.read) return true; // no room, for instance: dirty_tail cannot move
    const isBad = group.errors[i]?.code === 'BAD_MEDIA';
    return isBad && corruption.touches(group.offsetBytes[i] / SECTOR_BYTES, group.lengthBytes[i] / SECTOR_BYTES);
  }

  private judgeRead(slot: Slot, i: number): void {
    const { group, words } = slot;
    const floors = slot.floors[i]!;
    const first = group.offsetBytes[i] / SECTOR_BYTES;
    let at = group.arenaOffsetBytes[i] >>> 2;
    for (let n = 0; n < floors.length; n++, at += WORDS_PER_SECTOR) {
      const id = readStamp(words, at, first + n);
      if (this.model.mayRead(first + n, id, floors[n])) continue;
      throw new SimFailure(
        `a read is wrong (floor ${floors[n]}): ${this.model.describe(first + n, id)}; got ${describeContents(words, at)}`,
      );
    }
  }

  // ---- crashes ----------------------------------------------------------------------------------------

  crash(slots: number): void {
    this.crashes++;
    this.pmem.crash(this.random);
    this.backing.crash(this.random);
    this.recover(slots);
  }

  /** The process ends at once, and another opens the cache. */
  private kill(slots: number): void {
    this.crashes++;
    this.backing.abandon(this.random);
    this.model.kill();
    this.reopen(slots);
  }

  private recover(slots: number): void {
    const { verifier, words, views } = this.world;
    const loaded = verifier.check(this.pmem, words, this.backing, true);
    const held = verifier.contents(loaded, words, this.backing);
    this.model.restart((sector) => held.get(sector)!);
    views.restart();
    this.reopen(slots);
  }

  private reopen(slots: number): void {
    this.makeSlots();
    try {
      this.cache = this.world.open(this.pmem, this.backing, slots);
    } catch (error) {
      if (!(error instanceof PcacheError) || error.code !== 'IO') throw error;
      // The device failed during the open: the power goes, and it is sound again.
      this.pmem.fail({ after: Infinity, times: 0 });
      this.crash(slots);
    }
  }

  /** The cache has stopped: whatever was asked of it must end, and a new open must find all that was promised. */
  private stopped(): void {
    this.settle(() => this.pending === 0 && !this.cache.isBackingBusy);
    this.pmem.fail({ after: Infinity, times: 0 });
    this.crash(this.config.slots);
  }

  /**
   * An orderly close, and a new open. What is dirty stays in the log; where the log has no room for it and
   * never will, it is lost as in a crash.
   */
  private closeAndReopen(slots: number): void {
    const { cache } = this;
    for (const slot of this.slots) slot.next = undefined;
    cache.stopAccepting();
    this.settle(() => this.pending === 0);
    this.settle(() => {
      cache.requestClose();
      return !cache.hasOpenKeys || (cache.isLogStuck && cache.isWritebackHopeless);
    });
    cache.hurryWriteback = true;
    if (this.through) this.settle(() => cache.isClean || cache.isWritebackHopeless);
    cache.holdWriteback = true;
    this.settle(() => !cache.isBackingBusy && (!cache.hasUnsettledWrites || cache.isWritebackHopeless));
    if (cache.failure) return;
    if (cache.hasOpenKeys) {
      this.crash(slots);
      return;
    }
    if (!this.through) this.model.flushed(this.model.tick);
    this.recordBacking();
    this.reopen(slots);
  }

  /** As `attach` does when the cache is closed: a flush of the backing device, then the record. */
  private recordBacking(): void {
    let end: Error | null | undefined;
    this.backing.flush((error) => (end = error));
    while (this.backing.underWay > 0) this.backing.finish(0);
    if (end !== null) return;
    try {
      this.world.verifier.record(this.pmem, this.backing);
    } catch (error) {
      if (!(error instanceof PcacheError) || error.code !== 'IO') throw error;
    }
  }

  /** Ends the run: everything answered, everything written back, all of it as the model says. */
  finish(): void {
    this.settle(() => this.pending === 0);
    if (this.cache.failure) this.stopped();
    this.pmem.fail({ after: Infinity, times: 0 });
    this.world.drain(this.cache, this.backing, this.random);
    this.cache.check();
    this.world.corruption.expectNotPassed();
    for (const sector of this.model.written) {
      const found = this.heldAtTheEnd(sector);
      if (this.model.isCurrent(sector, found) || this.mayLack(sector, found)) continue;
      throw new SimFailure(`after the drain the backing device is wrong: ${this.model.describe(sector, found)}`);
    }
    if (this.explores) this.explorer.explore(this.random);
  }

  /** Writes and zeroes past the cache become durable only when a request asks for it. */
  private heldAtTheEnd(sector: number): number {
    const { mode, punches } = this.config;
    if (mode === 'writearound' || punches) return this.backing.newest(sector)?.tag ?? 0;
    return this.backing.durableTag(sector);
  }

  /** The newest version went bad in the cache, so that the backing device has an older one. */
  private mayLack(sector: number, found: number): boolean {
    const { corruption, model } = this.world;
    return found !== NOT_A_STAMP && corruption.hasCurrent(sector, (id) => model.isCurrent(sector, id));
  }
}

/** Runs a plan to its end. @throws what it finds wrong */
export function runPlan(plan: SimPlan): SimResult {
  const run = new SimRun(plan.config);
  for (const op of plan.ops) run.execute(op);
  run.finish();
  return run.result;
}
