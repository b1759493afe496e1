/**
 * How long processes had to wait for a processor, by the kernel's count (/proc/PID/task/TID/schedstat). It tells a stall
 * of a server from one of a machine that has others to run.
 */
import { readdirSync, readFileSync } from 'node:fs';

const SAMPLE_MS = 50;

interface Sample {
  readonly atMs: number;
  /** By process, in the order given: time that its threads have waited so far, ms. */
  readonly waitedMs: readonly number[];
}

/** Time that the threads of a process have waited for a processor since they began, ms. */
function waitedMs(pid: number): number {
  let totalNs = 0;
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const schedstat = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8');
      totalNs += Number(schedstat.split(' ')[1]);
    }
  } catch {
    // It has ended.
  }
  return totalNs / 1e6;
}

export class StarvationWatch {
  private readonly samples: Sample[] = [];
  private readonly timer: NodeJS.Timeout;

  constructor(private readonly pids: readonly number[]) {
    this.sample();
    this.timer = setInterval(() => this.sample(), SAMPLE_MS);
  }

  private sample(): void {
    this.samples.push({ atMs: Date.now(), waitedMs: this.pids.map(waitedMs) });
    if (this.samples.length > 4000) this.samples.splice(0, 2000);
  }

  /** The longest that one of the processes waited for a processor between two times of `Date.now()`, ms. */
  between(fromMs: number, toMs: number): number {
    this.sample();
    const before = this.samples.findLast(({ atMs }) => atMs <= fromMs) ?? this.samples[0];
    const after = this.samples.find(({ atMs }) => atMs >= toMs) ?? this.samples.at(-1)!;
    return Math.max(...after.waitedMs.map((waited, n) => waited - before.waitedMs[n]));
  }

  stop(): void {
    clearInterval(this.timer);
  }
}
