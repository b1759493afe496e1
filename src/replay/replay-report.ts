/** The report of a replay: what is shown, and in which order. */
import {
  byteRate,
  bytes,
  count,
  duration,
  ratio,
  requestRate,
  series,
  text,
  type ReportSection,
} from '../report-model/report-section.js';
import type { LatencySummary } from './latency.js';
import type { LatencyModelResult, LatencySummaries, PlainLatencySummaries, ReplayResult } from './replay-result.js';

export function replayReport(result: ReplayResult): ReportSection[] {
  const sections = [
    traceSection(result),
    requestSection(result),
    ...(result.latency ? [latencySection(result.latency, result.latencyWithoutCache)] : []),
    ...(result.model ? [modelSection(result.model)] : []),
    workSection(result),
    segmentSection(result),
  ];
  const verify = verifySection(result);
  return verify ? [...sections, verify] : sections;
}

function traceSection({
  trace,
  devices,
  elapsedNs,
  requestsPerSecond,
  bytesPerSecond,
  maxLagNs,
  simulated,
  lockstep,
}: ReplayResult): ReportSection {
  const rows = [
    { name: 'trace', values: [text(trace.name), text(trace.format)] },
    { name: 'events', values: [text(trace.action)] },
    { name: 'recorded for', values: [duration(trace.durationNs)] },
    {
      name: 'cache',
      values: [
        text(devices.cache),
        bytes(devices.cacheBytes),
        text(devices.mode),
        text(`data_crc ${devices.dataCrc ? 'on' : 'off'}`),
        text(`gc_percent ${devices.gcPercent}`),
        ...(devices.durability === null ? [] : [text(devices.durability)]),
      ],
    },
    { name: 'backing', values: [text(devices.backing), bytes(devices.backingBytes)] },
    { name: simulated ? 'simulated in' : 'replayed in', values: [duration(elapsedNs)] },
    {
      name: simulated ? 'simulation speed' : lockstep ? 'throughput (lockstep)' : 'throughput',
      values: [requestRate(requestsPerSecond), byteRate(bytesPerSecond)],
    },
  ];
  if (maxLagNs !== null && !(simulated && maxLagNs === 0))
    rows.push({ name: 'maximum lag', values: [duration(maxLagNs)] });
  return { title: 'Replay', rows };
}

function requestSection({ requests }: ReplayResult): ReportSection {
  const r = requests;
  return {
    title: 'Requests',
    head: ['', 'requests', 'bytes', 'hits', 'hit bytes', 'hit ratio', 'by bytes'],
    rows: [
      {
        name: 'reads',
        values: [
          count(r.reads),
          bytes(r.readBytes),
          count(r.readHits),
          bytes(r.readHitBytes),
          ratio(r.readHits, r.reads),
          ratio(r.readHitBytes, r.readBytes),
        ],
      },
      { name: 'writes', values: [count(r.writes), bytes(r.writeBytes)] },
      ...(r.directWrites > 0
        ? [{ name: '  bypassing the cache', values: [count(r.directWrites), bytes(r.directWriteBytes)] }]
        : []),
      { name: '  with FUA', values: [count(r.fuaWrites)] },
      { name: '  with preflush', values: [count(r.preflushWrites)] },
      { name: 'flushes', values: [count(r.flushes)] },
      { name: 'discards (skipped)', values: [count(r.discardsSkipped), bytes(r.discardBytesSkipped)] },
      { name: 'stalled requests', values: [count(r.waitedForRoom)] },
    ],
  };
}

function latencySection(latency: LatencySummaries, alone: PlainLatencySummaries | null): ReportSection {
  const row = (name: string, s: LatencySummary) => ({
    name,
    values: [
      count(s.count),
      ...(s.count === 0 ? [] : [s.meanNs, s.p50Ns, s.p90Ns, s.p99Ns, s.p999Ns, s.p9999Ns, s.maxNs].map(duration)),
    ],
  });
  return {
    title: alone ? 'Expected latency' : 'Latency',
    head: ['', 'requests', 'mean', 'p50', 'p90', 'p99', 'p99.9', 'p99.99', 'max'],
    rows: [
      row('read hit', latency.readHit),
      row('read miss', latency.readMiss),
      row('write', latency.write),
      row('flush', latency.flush),
      ...(alone
        ? [row('without cache: read', alone.read), row('  write', alone.write), row('  flush', alone.flush)]
        : []),
    ],
  };
}

/** The parameters of the latency model. */
function modelSection({ pmem, backing, backingBusy, backingBusyWithoutCache }: LatencyModelResult): ReportSection {
  const busy = (share: number | null) => (share === null ? text('unknown') : ratio(share, 1));
  return {
    title: 'Model',
    head: ['', 'read', 'write', 'flush', 'seek', 'reads', 'writes', 'depth'],
    rows: [
      {
        name: 'pmem',
        values: [
          duration(pmem.readNs),
          duration(pmem.writeNs),
          text(''),
          text(''),
          byteRate(pmem.readBytesPerSecond),
          byteRate(pmem.writeBytesPerSecond),
        ],
      },
      {
        name: 'backing device',
        values: [
          ...[backing.readNs, backing.writeNs, backing.flushNs, backing.seekNs].map(duration),
          byteRate(backing.bytesPerSecond),
          text(''),
          count(backing.depth),
        ],
      },
      { name: '  busy', values: [busy(backingBusy)] },
      { name: '  busy without cache', values: [busy(backingBusyWithoutCache)] },
    ],
  };
}

function workSection({ fill, writeback, gc, dirtyLeft }: ReplayResult): ReportSection {
  return {
    title: 'Background work',
    head: ['', 'ksets', 'keys', 'bytes', ''],
    rows: [
      {
        name: 'cache fills',
        values: [text(''), count(fill.keys), bytes(fill.bytes), text(`${fill.dropped} dropped`)],
      },
      {
        name: 'write-back',
        values: [
          count(writeback.ksets),
          count(writeback.keys),
          bytes(writeback.bytes),
          text(`${writeback.writes} writes, ${writeback.flushes} flushes, ${writeback.failures} failures`),
        ],
      },
      { name: 'GC', values: [count(gc.ksets), count(gc.keys), text(''), text(`${gc.segmentsFreed} segments freed`)] },
      {
        name: 'dirty at the end',
        values: dirtyLeft ? [text(''), count(dirtyLeft.keys), bytes(dirtyLeft.bytes)] : [text('unknown')],
      },
    ],
  };
}

function segmentSection({ segments, index, status }: ReplayResult): ReportSection {
  return {
    title: 'Segments',
    rows: [
      {
        name: 'in use at the end',
        values: [
          ratio(segments.usedAtEnd, segments.total),
          text(`${segments.usedAtEnd} of ${segments.total}, peak ${segments.usedPeak}`),
        ],
      },
      {
        name: 'in use over time',
        values: [series(segments.overTime.map((sample) => sample.value))],
      },
      { name: 'index', values: [count(index.entries), text('entries,'), bytes(index.memoryBytes)] },
      { name: 'status', values: [text(status)] },
    ],
  };
}

function verifySection({ verify, interrupted }: ReplayResult): ReportSection | undefined {
  if (!verify) return undefined;
  const wrong = verify.mismatches.map((mismatch) => ({
    name: `byte ${mismatch.offsetBytes} (${mismatch.where})`,
    values: [text(`expected ${mismatch.expected}, found ${mismatch.found}`)],
  }));
  const notShown = verify.mismatchCount - verify.mismatches.length;
  if (notShown > 0) wrong.push({ name: 'and', values: [text(`${notShown} more`)] });
  return {
    title: 'Verification',
    rows: [
      { name: 'sectors written', values: [count(verify.sectorsWritten)] },
      { name: 'read sectors checked', values: [count(verify.readSectorsChecked)] },
      {
        name: 'backing device compared',
        values:
          verify.backingSectorsChecked > 0 || !interrupted
            ? [count(verify.backingSectorsChecked), text('sectors')]
            : [text('no (interrupted)')],
      },
      { name: 'mismatches', values: [count(verify.mismatchCount)] },
      ...wrong,
    ],
  };
}
