/** What has been served, as plain data that threads can send: counters, latencies, and whether writers are slowed. */
import type { HistogramSnapshot } from './histogram.js';
import { KIND_NAMES, type ServerStats } from './stats.js';
import type { WritePacer } from './write-pacer.js';

export type ServerCounters = Omit<ServerStats, 'latency' | 'countLong'>;
export type LatencyKind = (typeof KIND_NAMES)[number];

export interface PacingState {
  readonly slowed: boolean;
  /** What writers get; null when they are not slowed. */
  readonly bytesPerSecond: number | null;
  readonly heldReplies: number;
  readonly slowedMs: number;
}

export interface Activity {
  readonly server: ServerCounters;
  readonly latency: Readonly<Record<LatencyKind, HistogramSnapshot>>;
  /** Sum of the latencies, ns. */
  readonly latencySumNs: Readonly<Record<LatencyKind, number>>;
  /** Whether writes are slowed because the cache is nearly full. */
  readonly pacing: PacingState;
}

function byKind<Value>(valueOf: (kind: number, name: LatencyKind) => Value): Record<LatencyKind, Value> {
  return Object.fromEntries(KIND_NAMES.map((name, kind) => [name, valueOf(kind, name)])) as Record<LatencyKind, Value>;
}

export function activityOf({ latency, ...server }: ServerStats, pacer: WritePacer): Activity {
  const { isSlowed, rate, heldReplies, slowedMs } = pacer;
  return {
    server,
    latency: byKind((kind) => latency[kind].snapshot()),
    latencySumNs: byKind((kind) => latency[kind].sumNs),
    pacing: {
      slowed: isSlowed,
      bytesPerSecond: isSlowed ? Math.round(rate * 1000) : null,
      heldReplies,
      slowedMs: Math.round(slowedMs),
    },
  };
}

/** What several threads have done together. @param counters of the thread that takes the clients */
export function sumOfActivities(counters: ServerStats, all: readonly Activity[]): Activity {
  const { latency: _, ...server } = counters;
  for (const one of all) {
    for (const name of Object.keys(server) as (keyof ServerCounters)[]) server[name] += one.server[name];
  }
  const slowed = all.filter(({ pacing }) => pacing.slowed);
  return {
    server,
    latency: byKind((_kind, name) => sumOfSnapshots(all.map(({ latency }) => latency[name]))),
    latencySumNs: byKind((_kind, name) => all.reduce((sum, { latencySumNs }) => sum + latencySumNs[name], 0)),
    pacing: {
      slowed: slowed.length > 0,
      bytesPerSecond: slowed.length === 0 ? null : slowed.reduce((sum, { pacing }) => sum + pacing.bytesPerSecond!, 0),
      heldReplies: all.reduce((sum, { pacing }) => sum + pacing.heldReplies, 0),
      slowedMs: Math.max(0, ...all.map(({ pacing }) => pacing.slowedMs)),
    },
  };
}

function sumOfSnapshots(snapshots: readonly HistogramSnapshot[]): HistogramSnapshot {
  const counts = new Map<number, number>();
  for (const [bucket, count] of snapshots.flat()) counts.set(bucket, (counts.get(bucket) ?? 0) + count);
  return [...counts].sort(([a], [b]) => a - b);
}
