/**
 * Groups of a shard that wait until every shard has closed its ksets: those with a FLUSH, and those behind a group that
 * has other requests as well. A FLUSH fails when one of the shards cannot close its ksets.
 */
import { Op, RequestState, type RequestGroup } from '../request/request-group.js';
import { Word, type SharedState } from './shared-state.js';

interface Held {
  readonly group: RequestGroup;
  /** It has no other request. */
  readonly isFlushOnly: boolean;
  /** A request of it is a FLUSH or PREFLUSH. */
  readonly isFlush: boolean;
  /** Number of the flush that it waits for; undefined before that was asked for. */
  flush: number | undefined;
}

export class HeldGroups {
  private readonly held: Held[] = [];
  /** Number of groups with requests that are no FLUSH: nothing may overtake them. */
  private others = 0;

  /**
   * @param onAsked called when the shards have a flush to serve
   * @param end receives each group in its turn, and whether its FLUSH has failed
   */
  constructor(
    private readonly state: SharedState,
    private readonly shard: number,
    private readonly onAsked: () => void,
    private readonly end: (group: RequestGroup, isStuck: boolean) => void,
  ) {}

  get length(): number {
    return this.held.length;
  }

  /** A group that is submitted now has to wait behind one of these. */
  get mustBeFollowed(): boolean {
    return this.others > 0;
  }

  /** @param isFlush a request of the group is a FLUSH or PREFLUSH */
  hold(group: RequestGroup, isFlush: boolean): void {
    group.pending = group.count;
    group.state.fill(RequestState.pending, 0, group.count);
    const isFlushOnly = group.op.subarray(0, group.count).every((op) => op === Op.flush);
    if (!isFlushOnly) this.others++;
    if (this.held.length === 0) this.state.setHolds(this.shard, true);
    this.held.push({ group, isFlushOnly, isFlush, flush: undefined });
  }

  /** Asks for one flush for all groups that wait for one that was not asked for. @returns whether there are any */
  private ask(): boolean {
    const { state, held } = this;
    let flush: number | undefined;
    for (let n = held.length - 1; n >= 0; n--) {
      if (held[n].flush !== undefined) break; // it was asked for, and all before it
      if (!held[n].isFlush) continue;
      flush ??= state.add(Word.flushAsked, 1);
      held[n].flush = flush;
    }
    if (flush === undefined) return false;
    this.onAsked();
    return true;
  }

  /**
   * Ends the groups, as far as their flushes are served.
   * @param hasFailed the cache device has failed: no group waits any more
   * @returns whether it did anything
   */
  run(hasFailed: boolean): boolean {
    const { state, held } = this;
    let worked = !hasFailed && this.ask(); // this shard has to serve the flush, too
    while (held.length > 0) {
      const { group, isFlushOnly, flush } = held[0];
      const end = flush === undefined || hasFailed ? 'served' : state.flushState(flush);
      if (end === 'pending') break;
      held.shift();
      if (held.length === 0) state.setHolds(this.shard, false);
      if (!isFlushOnly) this.others--;
      this.end(group, end === 'stuck');
      worked = true;
    }
    return worked;
  }
}
