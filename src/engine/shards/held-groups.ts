/**
 * Groups of a shard that wait until every shard has closed its ksets: those with a FLUSH, and those behind them. A FLUSH
 * fails when one of the shards cannot close its ksets.
 */
import { RequestState, type RequestGroup } from '../request/request-group.js';
import { Word, type SharedState } from './shared-state.js';

export class HeldGroups {
  private readonly held: { readonly group: RequestGroup; readonly isFlush: boolean }[] = [];
  /** Number of the flush that the first of them waits for; 0 before it was requested. */
  private waitsFor = 0;

  /**
   * @param onAsked called when the shards have a flush to serve
   * @param end receives each group in its turn, and whether its FLUSH has failed
   */
  constructor(
    private readonly state: SharedState,
    private readonly onAsked: () => void,
    private readonly end: (group: RequestGroup, isStuck: boolean) => void,
  ) {}

  get length(): number {
    return this.held.length;
  }

  /** @param isFlush a request of the group is a FLUSH or PREFLUSH */
  hold(group: RequestGroup, isFlush: boolean): void {
    group.pending = group.count;
    group.state.fill(RequestState.pending, 0, group.count);
    this.held.push({ group, isFlush });
  }

  /**
   * Ends the groups, as far as their flushes are served.
   * @param hasFailed the cache device has failed: no group waits any more
   * @returns whether it did anything
   */
  run(hasFailed: boolean): boolean {
    const { state, held } = this;
    let worked = false;
    while (held.length > 0) {
      const { group, isFlush } = held[0];
      const mustWait = isFlush && !hasFailed;
      if (mustWait && this.waitsFor === 0) {
        this.waitsFor = state.add(Word.flushAsked, 1);
        this.onAsked();
        return true; // this shard has to serve the flush, too
      }
      const flush = mustWait ? state.flushState(this.waitsFor) : 'served';
      if (flush === 'pending') break;
      this.waitsFor = 0;
      held.shift();
      this.end(group, flush === 'stuck');
      worked = true;
    }
    return worked;
  }
}
