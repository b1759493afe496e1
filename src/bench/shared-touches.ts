/**
 * Records what the jobs of one cache share: which cache lines of the shared memory each of them touches, in which order,
 * and how long it holds the lock. Nothing runs at once here, so every time is that of a job alone.
 */
import { performance } from 'node:perf_hooks';
import { SharedLock } from '../engine/shards/shared-lock.js';
import { LINE_WORDS, SharedState, Word, type SharedMemory } from '../engine/shards/shared-state.js';

/** Kinds of events in a recording. What is not negative is a touch: twice the line, and 1 more for a store. */
export const Event = { groupEnd: -1, lock: -2, unlock: -3 } as const;

/** The first line of each part of the shared memory: numbers that do not overlap. */
const Part = { words: 0, log: 2 ** 8, shards: 2 ** 9, orphans: 2 ** 20, references: 2 ** 21 } as const;

export const LOCK_LINE = lineOf(Part.words, Word.lock);

function lineOf(part: number, word: number): number {
  return part + Math.floor(word / LINE_WORDS);
}

/** What one job did, group by group. */
export class Recording {
  readonly events: number[] = [];
  /** Of each group, from submit to acknowledgement, ns. */
  readonly groupNs: number[] = [];
  /** Of each time that the lock was held, ns. */
  readonly holdNs: number[] = [];
  isOn = false;

  touch(line: number, isStore: boolean): void {
    if (this.isOn) this.events.push(2 * line + (isStore ? 1 : 0));
  }
  locked(): void {
    if (this.isOn) this.events.push(Event.lock);
  }
  unlocked(holdNs: number): void {
    if (!this.isOn) return;
    this.events.push(Event.unlock);
    this.holdNs.push(holdNs);
  }
  groupEnded(groupNs: number): void {
    this.events.push(Event.groupEnd);
    this.groupNs.push(groupNs);
  }
}

class RecordedLock extends SharedLock {
  constructor(
    words: Int32Array,
    private readonly recording: Recording,
  ) {
    super(words, Word.lock);
  }

  override run<T>(body: () => T): T {
    const { recording } = this;
    recording.locked();
    const began = performance.now();
    const result = super.run(body);
    recording.unlocked((performance.now() - began) * 1e6);
    return result;
  }
}

/** The shared state of one shard; what it does with it is recorded. */
export class RecordedState extends SharedState {
  constructor(
    memory: SharedMemory,
    private readonly recording: Recording,
  ) {
    super(memory, new RecordedLock(memory.words, recording));
  }

  override get logHead(): Float64Array {
    this.recording.touch(Part.log, true);
    return super.logHead;
  }
  override dropReferences(segment: number, references: number): number {
    this.recording.touch(lineOf(Part.references, segment), true);
    return super.dropReferences(segment, references);
  }
  override get(word: number): number {
    this.recording.touch(lineOf(Part.words, word), false);
    return super.get(word);
  }
  override set(word: number, value: number): void {
    this.recording.touch(lineOf(Part.words, word), true);
    super.set(word, value);
  }
  override add(word: number, value: number): number {
    this.recording.touch(lineOf(Part.words, word), true);
    return super.add(word, value);
  }
  override exchange(word: number, value: number): number {
    this.recording.touch(lineOf(Part.words, word), true);
    return super.exchange(word, value);
  }
  override enter(shard: number): void {
    this.recording.touch(Part.shards + shard, true);
    super.enter(shard);
  }
  override leave(shard: number): void {
    this.recording.touch(Part.shards + shard, true);
    super.leave(shard);
  }
  override setWaiting(shard: number, isWaiting: boolean): void {
    this.recording.touch(Part.shards + shard, true);
    super.setWaiting(shard, isWaiting);
  }
  override setFlushServed(shard: number, flush: number): void {
    this.recording.touch(Part.shards + shard, true);
    super.setFlushServed(shard, flush);
  }
  override addOrphan(segment: number): void {
    this.recording.touch(lineOf(Part.words, Word.orphans), true);
    this.recording.touch(lineOf(Part.orphans, this.memory.words[Word.orphans]), true);
    super.addOrphan(segment);
  }
}
