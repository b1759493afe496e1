/** A cache that several threads share, as one of them serves it: its exchange takes requests for all of the device. */
import type { BackingDevice } from '../engine/device/backing.js';
import type { Arena, Pmem } from '../engine/device/pmem.js';
import { errorOf, noteOf, PcacheError, type ErrorNote } from '../engine/errors.js';
import { type RequestGroup, type WritePressure } from '../engine/index.js';
import type { Shard } from '../engine/index.js';
import { SUBTREE_BYTES } from '../engine/media/geometry.js';
import type { Exchange } from '../engine/shards/exchange.js';
import type { Allocation } from './allocation.js';
import { EarlySync } from './early-sync.js';
import { findAllocation, type Store } from './store.js';
import type { SharedPressure } from './shared-pressure.js';

/** A request for `base:allocation` looks at so many subtrees, each in the thread that has it. */
const SUBTREES_MAX = 64;

/** Asked of the thread that has the subtree of the range. */
interface AllocationQuestion {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly extentsMax: number;
}
type AllocationAnswer = { readonly allocation: Allocation } | { readonly error: ErrorNote };

/** Answers the other threads' questions about the subtrees of a shard. */
export function answerAllocation(shard: Shard, backing: BackingDevice, question: unknown): Promise<AllocationAnswer> {
  const { offsetBytes, lengthBytes, extentsMax } = question as AllocationQuestion;
  return new Promise((resolve) => {
    findAllocation(shard, backing, offsetBytes, lengthBytes, extentsMax, (error, allocation) =>
      resolve(error ? { error: noteOf(error) } : { allocation }),
    );
  });
}

export interface ExchangeStoreOptions {
  readonly exchange: Exchange;
  readonly pmem: Pmem;
  readonly sizeBytes: number;
  readonly pressure: SharedPressure;
}

export class ExchangeStore implements Store {
  readonly isReadOnly = false;
  readonly sizeBytes: number;
  private readonly exchange: Exchange;
  private readonly give: (group: RequestGroup) => number;

  constructor(private readonly options: ExchangeStoreOptions) {
    const { exchange, pmem } = options;
    this.exchange = exchange;
    this.sizeBytes = options.sizeBytes;
    const submit = (group: RequestGroup) => exchange.submit(group);
    const early = pmem.beginPersist && new EarlySync({ beginSync: (done) => pmem.beginPersist!(done), submit });
    this.give = early ? (group) => early.submit(group) : submit;
  }

  submit(group: RequestGroup): number {
    return this.give(group);
  }
  pressure(): WritePressure | undefined {
    return this.options.pressure.share();
  }
  allocation(...[offsetBytes, lengthBytes, extentsMax, done]: Parameters<Required<Store>['allocation']>): void {
    void this.askAll(offsetBytes, lengthBytes, extentsMax).then(
      (allocation) => done(null, allocation),
      (error: unknown) => done(error instanceof PcacheError ? error : errorOf(noteOf(error)), []),
    );
  }

  private async askAll(offsetBytes: number, lengthBytes: number, extentsMax: number): Promise<Allocation> {
    const answers: Promise<unknown>[] = [];
    const end = offsetBytes + lengthBytes;
    for (let at = offsetBytes; at < end && answers.length < SUBTREES_MAX;) {
      const stop = Math.min(end, (Math.floor(at / SUBTREE_BYTES) + 1) * SUBTREE_BYTES);
      const question: AllocationQuestion = { offsetBytes: at, lengthBytes: stop - at, extentsMax };
      answers.push(this.exchange.ask(at, question));
      at = stop;
    }
    const joined: number[] = [];
    let at = offsetBytes;
    for (const answer of (await Promise.all(answers)) as AllocationAnswer[]) {
      if ('error' in answer) throw errorOf(answer.error);
      const startsAt = at;
      for (let n = 0; n < answer.allocation.length; n += 2) {
        const [length, flags] = [answer.allocation[n], answer.allocation[n + 1]];
        if (joined.length > 0 && joined[joined.length - 1] === flags) joined[joined.length - 2] += length;
        else if (joined.length === 2 * extentsMax) return joined;
        else joined.push(length, flags);
        at += length;
      }
      const wholeEnd = Math.min(end, (Math.floor(startsAt / SUBTREE_BYTES) + 1) * SUBTREE_BYTES);
      if (at < wholeEnd) break; // that thread's answer reaches less far
    }
    return joined;
  }

  makeArena(lengthBytes: number): Arena {
    return this.exchange.makeArena(lengthBytes);
  }
  dropArena(arena: Arena): void {
    this.exchange.dropArena(arena);
  }
}
