/**
 * How old the oldest dirty data is. Ksets are numbered in the order of the log; the number of the newest is looked at
 * from time to time, which gives the age of each to within that time. What was dirty when the cache was opened is as old
 * as that at least.
 */

/** More looks are merged in pairs: data then seem older, never younger. */
const LOOKS_MAX = 4096;

interface Look {
  /** Newest kset at that time, an open one included. */
  kset: number;
  readonly atMs: number;
}

/** As `Cache.dirtyKsets`. */
export interface DirtyKsets {
  /** Number of the oldest kset that is not durable on the backing device. */
  readonly oldest: number;
  /** Number of the newest kset with data in it; below `oldest` when nothing is dirty. */
  readonly newest: number;
}

export class DirtyAge {
  private looks: Look[];

  constructor(openedMs: number) {
    this.looks = [{ kset: 0, atMs: openedMs }];
  }

  /** To be called a few times a second. */
  look({ oldest, newest }: DirtyKsets, nowMs: number): void {
    const { looks } = this;
    const first = looks.findIndex(({ kset }) => kset >= oldest);
    looks.splice(0, first < 0 ? looks.length : first);
    if (newest >= oldest && (looks.length === 0 || looks[looks.length - 1].kset < newest)) {
      looks.push({ kset: newest, atMs: nowMs });
    }
    if (looks.length > LOOKS_MAX) {
      this.looks = looks.filter((look, i) => {
        if (i % 2 === 1) return false;
        look.kset = looks[Math.min(i + 1, looks.length - 1)].kset;
        return true;
      });
    }
  }

  /** Age of the oldest dirty data, ms; null when nothing is dirty. */
  ageMs(ksets: DirtyKsets, nowMs: number): number | null {
    this.look(ksets, nowMs);
    return ksets.newest < ksets.oldest ? null : nowMs - this.looks[0].atMs;
  }
}
