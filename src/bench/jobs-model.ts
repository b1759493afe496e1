/**
 * Plays recordings of jobs that ran one after another as if each had a processor of its own. A job goes on alone until
 * it needs the lock, which one job at a time has, or touches a cache line that another one has changed since: then it
 * waits for the line. Pure.
 *
 * Groups are told apart by how often they take the lock. All of a kind take the time that a quarter of them stayed below,
 * so that what disturbed the recording counts little.
 */
import { Event, LOCK_LINE, type Recording } from './shared-touches.js';
import { percentileOf } from './spread.js';

export interface ModelledJobs {
  readonly jobs: number;
  readonly requestsPerSecond: number;
  /** Time of a job per request, waiting included, ns. */
  readonly nsPerRequest: number;
  /** Share of the whole time in which some job holds the lock. */
  readonly lockHeldShare: number;
  /** Share of a job's time in which it waits for the lock. */
  readonly lockWaitShare: number;
  /** Time that the lock is held per request, transfers included, ns. */
  readonly lockHeldNsPerRequest: number;
  /** Cache lines that come from another processor, per request. */
  readonly transfersPerRequest: number;
}

export interface ModelOptions {
  /** What a cache line from another processor takes, ns. */
  readonly transferNs: number;
  /** Requests in a group. */
  readonly depth: number;
}

/** Share of the recorded times that lie below the one that counts. */
const QUIET_SHARE = 0.25;
const quietOf = (ns: readonly number[]): number => percentileOf(Float64Array.from(ns).sort(), QUIET_SHARE);

/** Who has each cache line: one job alone, or several that only read it. */
class Lines {
  transfers = 0;
  private readonly holders = new Map<number, Set<number>>();

  /** @returns whether the line has to come from another processor */
  touch(job: number, code: number): boolean {
    const line = code >> 1;
    const isStore = (code & 1) === 1;
    let holders = this.holders.get(line);
    if (holders === undefined) this.holders.set(line, (holders = new Set([job])));
    const isThere = holders.has(job) && (!isStore || holders.size === 1);
    if (isThere) return false;
    if (isStore) holders.clear();
    holders.add(job);
    this.transfers++;
    return true;
  }
}

/** Times of the groups of all recordings, by how often they take the lock: those of a job alone, however many there are. */
export class JobTimes {
  /** Time of a group without the lock's, ns. */
  private readonly aloneNs = new Map<number, number>();
  readonly holdNs: number;

  constructor(recordings: readonly Recording[]) {
    const alone = new Map<number, number[]>();
    for (const recording of recordings) {
      let hold = 0;
      let group = 0;
      for (const holds of groupsOf(recording)) {
        let ns = recording.groupNs[group++];
        for (let n = 0; n < holds; n++) ns -= recording.holdNs[hold++];
        const kind = alone.get(holds);
        if (kind) kind.push(ns);
        else alone.set(holds, [ns]);
      }
    }
    for (const [holds, all] of alone) this.aloneNs.set(holds, Math.max(0, quietOf(all)));
    const holds = recordings.flatMap(({ holdNs }) => holdNs);
    this.holdNs = holds.length === 0 ? 0 : quietOf(holds);
  }

  /** What a group computes between two of its holds, before the first and behind the last, ns. */
  pieceNs(holds: number): number {
    return this.aloneNs.get(holds)! / (holds + 1);
  }
}

/** How often each group takes the lock. */
function* groupsOf({ events }: Recording): Generator<number> {
  let holds = 0;
  for (const event of events) {
    if (event === Event.lock) holds++;
    if (event !== Event.groupEnd) continue;
    yield holds;
    holds = 0;
  }
}

/** One job on its way through its recording. */
class Player {
  timeNs = 0;
  /** When it came to where it is: of those that wait for the lock the first is served first. */
  cameNs = 0;
  groups = 0;
  waitNs = 0;
  private at = 0;
  private readonly kinds: Uint16Array;

  constructor(
    readonly job: number,
    private readonly recording: Recording,
    private readonly times: JobTimes,
  ) {
    this.kinds = Uint16Array.from(groupsOf(recording));
    this.beginGroup();
  }

  get isOver(): boolean {
    return this.at === this.recording.events.length;
  }

  isBefore(other: Player): boolean {
    return this.timeNs < other.timeNs || (this.timeNs === other.timeNs && this.cameNs < other.cameNs);
  }

  private beginGroup(): void {
    if (!this.isOver) this.timeNs += this.times.pieceNs(this.kinds[this.groups]);
  }

  /** The next event. @returns when the lock is free again, if this was a hold of it; else `lockFreeNs` */
  step(lines: Lines, transferNs: number, lockFreeNs: number): number {
    const { events } = this.recording;
    const event = events[this.at];
    if (event === Event.lock && this.timeNs < lockFreeNs) {
      this.waitNs += lockFreeNs - this.timeNs;
      this.timeNs = lockFreeNs; // and asks again, after those who came before
      return lockFreeNs;
    }
    this.at++;
    const freeNs = this.pass(event, lines, transferNs, lockFreeNs);
    this.cameNs = this.timeNs;
    return freeNs;
  }

  /** Lets an event take its time. @returns as `step` */
  private pass(event: number, lines: Lines, transferNs: number, lockFreeNs: number): number {
    const { events } = this.recording;
    if (event >= 0) {
      if (lines.touch(this.job, event)) this.timeNs += transferNs;
      return lockFreeNs;
    }
    if (event === Event.groupEnd) {
      this.groups++;
      this.beginGroup();
      return lockFreeNs;
    }
    let transfers = lines.touch(this.job, 2 * LOCK_LINE + 1) ? 1 : 0;
    for (; events[this.at] !== Event.unlock; this.at++) if (lines.touch(this.job, events[this.at])) transfers++;
    this.at++;
    this.timeNs += this.times.holdNs + transfers * transferNs;
    const freeNs = this.timeNs;
    this.timeNs += this.times.pieceNs(this.kinds[this.groups]);
    return freeNs;
  }
}

/** @param recordings of each job, of as many groups */
export function modelJobs(
  recordings: readonly Recording[],
  times: JobTimes,
  { transferNs, depth }: ModelOptions,
): ModelledJobs {
  const players = recordings.map((recording, job) => new Player(job, recording, times));
  const lines = new Lines();
  let lockFreeNs = 0;
  let heldNs = 0;
  for (;;) {
    const next = players.reduce((first, player) => (player.isBefore(first) ? player : first));
    if (next.isOver) break; // from here on fewer would run at once
    const beganNs = Math.max(lockFreeNs, next.timeNs);
    const freeNs = next.step(lines, transferNs, lockFreeNs);
    if (freeNs !== lockFreeNs) heldNs += freeNs - beganNs;
    lockFreeNs = freeNs;
  }
  const sum = (of: (player: Player) => number) => players.reduce((total, player) => total + of(player), 0);
  const wholeNs = Math.max(...players.map(({ timeNs }) => timeNs));
  const requests = sum(({ groups }) => groups) * depth;
  return {
    jobs: players.length,
    requestsPerSecond: (requests / wholeNs) * 1e9,
    nsPerRequest: sum(({ timeNs }) => timeNs) / requests,
    lockHeldShare: heldNs / wholeNs,
    lockWaitShare: sum(({ waitNs }) => waitNs) / sum(({ timeNs }) => timeNs),
    lockHeldNsPerRequest: heldNs / requests,
    transfersPerRequest: lines.transfers / requests,
  };
}
