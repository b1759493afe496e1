/** The headline numbers of a report. */
import type { CurveResult } from '../curve/result.js';
import { formatBytes, formatCount, formatDuration, formatPercent } from '../output/units.js';
import type { ReplayResult } from '../replay/replay-result.js';

export interface Tile {
  readonly name: string;
  readonly value: string;
  readonly more: string;
}

const NONE = '–';

export function replayTiles(result: ReplayResult): Tile[] {
  const { requests, segments, timeline, gc } = result;
  return [
    {
      name: 'Read hit ratio',
      value: formatPercent(requests.readHits, requests.reads).replace(/^-$/, NONE),
      more:
        requests.reads === 0
          ? 'no reads'
          : `of ${plural(requests.reads, 'read')}; ${formatPercent(requests.readHitBytes, requests.readBytes)} of bytes`,
    },
    {
      name: 'Requests',
      value: formatCount(requests.total),
      more: [
        plural(requests.reads, 'read'),
        plural(requests.writes, 'write'),
        plural(requests.flushes, 'flush', 'flushes'),
      ].join(', '),
    },
    throughputTile(result),
    amplificationTile(result),
    { name: 'Dirty data at most', value: formatBytes(timeline.dirtyPeakBytes), more: dirtyLeft(result) },
    {
      name: 'Segments in use at most',
      value: `${formatCount(segments.usedPeak)} of ${formatCount(segments.total)}`,
      more: `${formatCount(gc.segmentsFreed)} freed by garbage collection`,
    },
  ];
}

/** Of a run at the trace's own time the speed of the run says nothing about the cache. */
function throughputTile(result: ReplayResult): Tile {
  const { requests, timeline, lockstep, simulated } = result;
  if (!lockstep && !simulated) {
    return {
      name: 'Throughput',
      value: `${formatCount(Math.round(result.requestsPerSecond))}/s`,
      more: `${formatBytes(Math.round(result.bytesPerSecond))}/s; replayed in ${formatDuration(result.elapsedNs)}`,
    };
  }
  const seconds = timeline.endNs / 1e9;
  const perSecond = (amount: number) => (seconds > 0 ? Math.round(amount / seconds) : 0);
  return {
    name: 'Throughput of the trace',
    value: `${formatCount(perSecond(requests.total))}/s`,
    more: `${formatBytes(perSecond(requests.readBytes + requests.writeBytes))}/s over ${formatDuration(timeline.endNs)}`,
  };
}

function amplificationTile({ requests, backingRequests }: ReplayResult): Tile {
  const bytes = backingRequests.writeBytes;
  return {
    name: 'Write-back amplification',
    value: requests.writeBytes === 0 ? NONE : `${(bytes / requests.writeBytes).toFixed(2)} ×`,
    more: `${formatBytes(bytes)} of ${formatBytes(requests.writeBytes)} written back`,
  };
}

function dirtyLeft({ dirtyLeft }: ReplayResult): string {
  if (dirtyLeft === null) return 'at the end: not known';
  return dirtyLeft.bytes === 0 ? 'nothing left at the end' : `${formatBytes(dirtyLeft.bytes)} left at the end`;
}

export function curveTiles({ curve, requests }: CurveResult): Tile[] {
  const enough = curve.find(({ holdsAll }) => holdsAll);
  const best = curve.at(-1);
  return [
    {
      name: 'Requests',
      value: requests ? formatCount(requests.total) : NONE,
      more: requests ? `${plural(requests.reads, 'read')}, ${plural(requests.writes, 'write')}` : 'not known',
    },
    {
      name: 'Holds all of it',
      value: enough ? formatBytes(enough.cacheBytes) : NONE,
      more: enough ? 'the smallest size that never had to drop anything' : 'every size had to drop something',
    },
    {
      name: 'Read hit ratio of the largest',
      value: best === undefined || best.hitRatioByRequests === null ? NONE : formatPercent(best.hitRatioByRequests, 1),
      more: best ? `at ${formatBytes(best.cacheBytes)}` : 'no size was done',
    },
  ];
}

function plural(count: number, noun: string, nouns = `${noun}s`): string {
  return `${formatCount(count)} ${count === 1 ? noun : nouns}`;
}
