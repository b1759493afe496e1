/**
 * Runs a plan against the real engine on simulated devices, with the model as its judge: every read, every
 * crash state at every barrier, every recovery, and what a drain leaves on the backing device.
 */
import { Cache } from '../../src/engine/cache.js';
import { bestCrc32c } from '../../src/engine/device/native.js';
import { PcacheError } from '../../src/engine/errors.js';
import { CACHE_INFO_BYTES, POSITION_BYTES } from '../../src/engine/media/codecs.js';
import { structCrc } from '../../src/engine/media/crc32c.js';
import {
  CACHE_INFO_COPIES,
  DIRTY_TAIL_COPIES,
  generationCopies,
  KEY_TAIL_COPIES,
  SECTOR_BYTES,
  segmentInfoCopies,
} from '../../src/engine/media/geometry.js';
import { Op, RequestFlag, RequestGroup, RequestState } from '../../src/engine/request-group.js';
import { Random } from '../../src/engine/sim/random.js';
import { SimBacking } from '../../src/engine/sim/sim-backing.js';
import { SimClock } from '../../src/engine/sim/sim-clock.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { checkCache } from '../../src/fsck/check.js';
import type { Finding } from '../../src/fsck/findings.js';
import { Model, SimFailure } from './model.js';
import { geometryOf, makeDevice } from './sim-device.js';
import {
  GROUP_REQUESTS_MAX,
  GROUP_SECTORS_MAX,
  type SimConfig,
  type SimOp,
  type SimPlan,
  type SimRequest,
} from './sim-plan.js';
import { Verifier } from './sim-verify.js';
import { Views } from './sim-views.js';
import { describeContents, readStamp, stamp, wordsOf } from './stamps.js';

const WORDS_PER_SECTOR = SECTOR_BYTES / 4;
const GROUPS = 6;
/** More turns than any plan needs to come to rest: beyond it the engine is stuck. */
const TURNS_MAX = 100_000;
/** Crash states looked at per barrier, at most. */
const STATES_PER_BARRIER_MAX = 2;
/** Of so many crash states one is recovered from scratch, every word looked at and every payload CRC. */
const THOROUGH_EVERY = 32;
const DRAIN_EVERY = 200;
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
  readonly losesTwins?: boolean;
}

/** Memory of the groups, shared by all runs of a process: it is overwritten before each use. */
const arenas: Uint8Array[] = [];
function arenaMemory(n: number): Uint8Array {
  return (arenas[n] ??= new Uint8Array(GROUP_SECTORS_MAX * SECTOR_BYTES));
}

class Slot {
  readonly words: Int32Array;
  readonly group: RequestGroup;
  readonly writeId = new Int32Array(GROUP_REQUESTS_MAX);
  readonly tick = new Float64Array(GROUP_REQUESTS_MAX);
  readonly floors: (Float64Array | undefined)[] = new Array<Float64Array | undefined>(GROUP_REQUESTS_MAX).fill(
    undefined,
  );
  readonly ended = new Uint8Array(GROUP_REQUESTS_MAX);
  /** What to submit when the group has ended, if it does not end at once. */
  next: readonly SimRequest[] | undefined;

  constructor(pmem: SimPmem, memory: Uint8Array) {
    this.words = wordsOf(memory);
    this.group = new RequestGroup(GROUP_REQUESTS_MAX, pmem.registerArena(memory));
  }
}

export class SimRun {
  readonly result: SimResult = { crashStates: 0, drains: 0, requests: 0, crashes: 0 };
  readonly model: Model;
  readonly pmem: SimPmem;
  readonly backing: SimBacking;
  readonly clock = new SimClock();
  cache: Cache;

  private readonly words: Int32Array;
  private readonly verifier: Verifier;
  private readonly views: Views;
  private slots: Slot[] = [];
  private random: Random;
  private errorsInjected = false;

  private readonly explores: boolean;
  private readonly losesTwins: boolean;

  constructor(
    private readonly config: SimConfig,
    options: SimOptions = {},
  ) {
    this.explores = options.explores ?? true;
    this.losesTwins = options.losesTwins ?? false;
    this.random = new Random(config.seed);
    this.model = new Model(config.sectors);
    this.pmem = makeDevice(config);
    this.words = wordsOf(this.pmem.bytes);
    this.verifier = new Verifier(geometryOf(config), this.model);
    this.backing = new SimBacking({
      sizeBytes: config.sectors * SECTOR_BYTES,
      initial: (sector, target, at) => stamp(wordsOf(target), at >>> 2, sector, 0),
      tagOf: (sector, bytes, at) => readStamp(wordsOf(bytes), at >>> 2, sector),
    });
    this.views = new Views(this.model, this.pmem, this.backing, geometryOf(config), (device) =>
      this.verifier.load(device, false),
    );
    if (this.explores) this.pmem.onBarrier = () => this.explore();
    this.cache = this.open(this.pmem, this.backing, config.slots);
    this.makeSlots();
  }

  private open(pmem: SimPmem, backing: SimBacking, slots: number): Cache {
    return new Cache({ pmem, backing, clock: this.clock, geometry: geometryOf(this.config), slots, crc: bestCrc32c() });
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
        for (let n = 0; n < op.times && this.backing.underWay > 0; n++) this.answer(op.error);
        break;
      case 'clock':
        this.clock.advance(op.ms);
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
      case 'reopen':
        this.reopen(op.slots);
        break;
      case 'fail':
        this.pmem.fail(op);
        this.errorsInjected = true;
        break;
    }
    if (this.cache.failure) this.stopped();
    else this.cache.check();
  }

  private setGcPercent(percent: number): void {
    try {
      this.cache.setGcPercent(percent);
    } catch (error) {
      if (!(error instanceof PcacheError) || !this.errorsInjected) throw error;
    }
  }

  private answer(error?: 'IO' | 'NO_SPACE'): void {
    const which = this.random.below(this.backing.underWay);
    if (error) {
      this.errorsInjected = true;
      this.backing.finishWithError(which, this.random, error);
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
        this.clock.advance(Math.max(1, this.cache.nextDeadlineMs - this.clock.nowMs()));
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
    this.result.requests += group.count;
    this.cache.submit(group);
    for (let i = 0; i < group.count; i++) {
      if (group.state[i] !== RequestState.pending && slot.ended[i] === 0) this.ended(slot, i);
    }
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
      if (op === Op.write) this.model.fail(slot.writeId[i]);
      if (!this.errorsInjected) throw new SimFailure(`a request failed without cause: ${group.errors[i]?.message}`);
      return;
    }
    if (op === Op.read) {
      this.judgeRead(slot, i);
    } else if (op === Op.flush) {
      this.model.flushed(slot.tick[i]);
    } else {
      this.model.acknowledge(slot.writeId[i], (group.flags[i] & RequestFlag.fua) !== 0);
      if ((group.flags[i] & RequestFlag.preflush) !== 0) this.model.flushed(slot.tick[i]);
    }
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

  /** Looks at what crashes at this moment would leave. */
  private explore(): void {
    const { random, pmem } = this;
    const states = pmem.pendingBytes === 0 ? 1 : random.between(1, STATES_PER_BARRIER_MAX);
    for (let n = 0; n < states; n++) {
      const count = ++this.result.crashStates;
      pmem.withCrash(random, (device) => {
        if (this.losesTwins) {
          this.checkWithoutTwin(random);
          return;
        }
        this.views.judge();
        if (count % THOROUGH_EVERY === 0) {
          this.views.expectToEqual(this.verifier.check(device, this.words, this.backing, true));
        }
        if (random.below(DRAIN_EVERY) === 0) this.recoverAndDrain(random);
      });
    }
  }

  /** As a crash state, and one copy of some dual structure is damaged besides. */
  private checkWithoutTwin(random: Random): void {
    const { pmem, verifier } = this;
    const geometry = geometryOf(this.config);
    const segment = random.below(this.config.segments);
    const structures = [
      CACHE_INFO_COPIES,
      KEY_TAIL_COPIES,
      DIRTY_TAIL_COPIES,
      segmentInfoCopies(geometry, segment),
      generationCopies(geometry, segment),
    ];
    const copies = random.pick(structures);
    // A copy that is torn already is the one that is lost: the other is good.
    const at = copies[random.below(2)] + 8;
    const other = at === copies[0] + 8 ? copies[1] : copies[0];
    if (!hasGoodCopyAt(pmem, other, copies === CACHE_INFO_COPIES ? CACHE_INFO_BYTES : POSITION_BYTES)) return;
    pmem.bytes[at] ^= 0x11;
    try {
      verifier.check(pmem, this.words, this.backing, true);
    } finally {
      pmem.bytes[at] ^= 0x11;
    }
  }

  /** Recovers copies of both devices for good, and writes everything back. */
  private recoverAndDrain(random: Random): void {
    this.result.drains++;
    const pmem = this.pmem.copy();
    const backing = this.backing.copyCrashed(random);
    this.expectClean(pmem, 'after a crash');
    const expected = this.verifier.contents(this.verifier.load(pmem, true), wordsOf(pmem.bytes), backing);
    const cache = this.open(pmem, backing, random.between(1, 3));
    drain(cache, backing, this.clock, random);
    cache.check();
    this.expectClean(pmem, 'after recovery and drain');
    for (const [sector, id] of expected) {
      const found = backing.durableTag(sector);
      if (found !== id)
        throw new SimFailure(
          `draining after a crash changed what was recovered, from ${id}: ${this.model.describe(sector, found)}`,
        );
    }
  }

  /**
   * A crash may tear the copy that was being written, or the kset at the end of the log: warnings, since
   * nothing counts on them. Opening puts them right.
   */
  private expectClean(pmem: SimPmem, when: 'after a crash' | 'after recovery and drain'): void {
    const geometry = geometryOf(this.config);
    const { findings } = checkCache(pmem, {
      geometry,
      backingBytes: this.backing.sizeBytes,
      data: true,
      crc: bestCrc32c(),
    });
    const harmless = (finding: Finding) => finding.severity === 'warning' && !finding.kernelRefuses;
    const worst = findings.find(
      (finding) => finding.severity !== 'note' && !(when === 'after a crash' && harmless(finding)),
    );
    if (worst) throw new SimFailure(`fsck ${when}: ${worst.code} at ${worst.where}: ${worst.detail}`);
  }

  crash(slots: number): void {
    this.result.crashes++;
    this.pmem.crash(this.random);
    this.backing.crash(this.random);
    this.recover(slots);
  }

  private recover(slots: number): void {
    const loaded = this.verifier.check(this.pmem, this.words, this.backing, true);
    const held = this.verifier.contents(loaded, this.words, this.backing);
    this.model.restart((sector) => held.get(sector)!);
    this.views.restart();
    this.makeSlots();
    try {
      this.cache = this.open(this.pmem, this.backing, slots);
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

  /** An orderly close, and a new open. What is dirty stays in the log. */
  private reopen(slots: number): void {
    const { cache } = this;
    for (const slot of this.slots) slot.next = undefined;
    cache.stopAccepting();
    this.settle(() => this.pending === 0);
    this.settle(() => {
      cache.requestClose();
      return !cache.hasOpenKeys;
    });
    cache.holdWriteback = true;
    this.settle(() => !cache.isBackingBusy);
    if (cache.failure) return;
    this.model.flushed(this.model.tick);
    this.recover(slots);
  }

  /** Ends the run: everything answered, everything written back, all of it as the model says. */
  finish(): void {
    this.settle(() => this.pending === 0);
    if (this.cache.failure) this.stopped();
    this.pmem.fail({ after: Infinity, times: 0 });
    drain(this.cache, this.backing, this.clock, this.random);
    this.cache.check();
    for (const sector of this.model.written) {
      const found = this.backing.durableTag(sector);
      if (!this.model.isCurrent(sector, found))
        throw new SimFailure(`after the drain the backing device is wrong: ${this.model.describe(sector, found)}`);
    }
    if (this.explores) this.explore();
  }
}

/** Writes everything back, without errors. */
export function drain(cache: Cache, backing: SimBacking, clock: SimClock, random: Random): void {
  for (let turn = 0; turn < TURNS_MAX; turn++) {
    cache.requestClose();
    if (cache.step()) continue;
    if (cache.failure) throw cache.failure;
    if (backing.underWay > 0) backing.finish(random.below(backing.underWay));
    else if (cache.isClean) return;
    else if (cache.nextDeadlineMs < Infinity) clock.advance(Math.max(1, cache.nextDeadlineMs - clock.nowMs()));
    else throw new SimFailure(`the drain is stuck: ${cache.writebackError?.message ?? cache.status().line}`);
  }
  throw new SimFailure(`the drain does not end: ${cache.status().line}`);
}

/** Runs a plan to its end. @throws what it finds wrong */
export function runPlan(plan: SimPlan): SimResult {
  const run = new SimRun(plan.config);
  for (const op of plan.ops) run.execute(op);
  run.finish();
  return run.result;
}

function hasGoodCopyAt(pmem: SimPmem, offset: number, lengthBytes: number): boolean {
  const crcStored = new DataView(pmem.bytes.buffer).getUint32(offset, true);
  return crcStored === structCrc(pmem.bytes, offset, lengthBytes);
}
