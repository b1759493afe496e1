/** The report of what is in a trace: what is shown, and in which order. */
import {
  bytes,
  count,
  duration,
  ratio,
  requestRate,
  series,
  text,
  type Quantity,
  type ReportRow,
  type ReportSection,
} from '../report-model/report-section.js';
import { OPS } from './info.js';
import type { OpInfo, TraceInfo, TraceInterval } from './info.js';

/** Of many devices so many are shown. */
const DEVICES_SHOWN = 10;

const bytesOrNone = (value: number | null): Quantity => (value === null ? text('-') : bytes(value));

export function traceReport(info: TraceInfo): ReportSection[] {
  return [
    traceSection(info),
    ...(info.devices.length > 1 ? [deviceSection(info)] : []),
    requestSection(info),
    sizeSection(info),
    footprintSection(info),
    timeSection(info),
    ...passedOverSection(info),
  ];
}

function traceSection(info: TraceInfo): ReportSection {
  const { name, format, durationNs, requests, devices, interArrival } = info;
  const rows: ReportRow[] = [
    { name: 'trace', values: [text(name), text(format)] },
    { name: 'requests', values: [count(requests)] },
    { name: 'duration', values: [duration(durationNs)] },
  ];
  if (durationNs > 0) rows.push({ name: 'rate', values: [requestRate(requests / (durationNs / 1e9))] });
  if (devices.length === 1 && devices[0].name !== '') rows.push({ name: 'device', values: [text(devices[0].name)] });
  if (devices.length > 1) rows.push({ name: 'devices', values: [count(devices.length)] });
  if (interArrival !== null && durationNs > 0) {
    const { meanNs, p50Ns, p90Ns, p99Ns, maxNs } = interArrival;
    const named: [string, number][] = [
      ['mean', meanNs],
      ['p50', p50Ns],
      ['p90', p90Ns],
      ['p99', p99Ns],
      ['max', maxNs],
    ];
    rows.push({ name: 'from one to the next', values: named.flatMap(([label, ns]) => [text(label), duration(ns)]) });
  }
  return { title: 'Trace', rows };
}

function deviceSection({ devices, requests }: TraceInfo): ReportSection {
  const rows = devices.slice(0, DEVICES_SHOWN).map((device) => ({
    name: device.name === '' ? '(no name)' : device.name,
    values: [count(device.requests), ratio(device.requests, requests)],
  }));
  const others = devices.slice(DEVICES_SHOWN);
  if (others.length > 0) {
    const rest = others.reduce((sum, device) => sum + device.requests, 0);
    rows.push({ name: `${others.length} more`, values: [count(rest), ratio(rest, requests)] });
  }
  return {
    title: 'Devices (everything below is of all of them; --device takes one)',
    head: ['', 'requests', ''],
    rows,
  };
}

function requestSection({ operations, requests }: TraceInfo): ReportSection {
  const titles = { read: 'reads', write: 'writes', flush: 'flushes', discard: 'discards' } as const;
  const row = (name: string, op: OpInfo): ReportRow => ({
    name,
    values: [
      count(op.requests),
      ratio(op.requests, requests),
      ...(op.requests === 0 || op.maxBytes === 0
        ? []
        : [
            bytesOrNone(op.bytes),
            bytesOrNone(op.meanBytes === null ? null : Math.round(op.meanBytes)),
            bytesOrNone(op.minBytes),
            bytesOrNone(op.maxBytes),
            ratio(op.aligned, op.requests),
            ratio(op.sequential, op.requests),
            ratio(op.inStreams, op.requests),
          ]),
    ],
  });
  return {
    title: 'Requests',
    head: ['', 'requests', 'share', 'bytes', 'mean', 'min', 'max', '4 KiB-aligned', 'sequential', 'in 32 streams'],
    rows: OPS.map((name) => row(titles[name], operations[name])),
  };
}

function sizeSection({ sizes, operations }: TraceInfo): ReportSection {
  const discards = operations.discard.requests > 0;
  return {
    title: 'Sizes (from, up to below the next)',
    head: ['', 'reads', '', 'writes', '', ...(discards ? ['discards', ''] : [])],
    rows: sizes.map(({ fromBytes, ...of }) => ({
      name: fromBytes === 0 ? 'below 1 KiB' : sizeName(fromBytes),
      values: [
        count(of.reads),
        ratio(of.reads, operations.read.requests),
        count(of.writes),
        ratio(of.writes, operations.write.requests),
        ...(discards ? [count(of.discards), ratio(of.discards, operations.discard.requests)] : []),
      ],
    })),
  };
}

/** Of a power of two. */
function sizeName(sizeBytes: number): string {
  const [unit, name] =
    sizeBytes < 2 ** 20 ? [2 ** 10, 'KiB'] : sizeBytes < 2 ** 30 ? [2 ** 20, 'MiB'] : [2 ** 30, 'GiB'];
  return `${sizeBytes / unit} ${name}`;
}

function footprintSection({ footprint }: TraceInfo): ReportSection {
  const share = (part: number | null): Quantity => (part === null ? text('-') : ratio(part, 1));
  return {
    title: 'Footprint (blocks of 4 KiB)',
    rows: [
      { name: 'reaches to', values: [bytesOrNone(footprint.endBytes)] },
      {
        name: 'touched',
        values:
          footprint.uniqueBytes === null ? [text('spread too far to tell')] : [bytesOrNone(footprint.uniqueBytes)],
      },
      { name: 'read', values: [bytesOrNone(footprint.uniqueReadBytes)] },
      { name: 'written', values: [bytesOrNone(footprint.uniqueWriteBytes)] },
      { name: 'reads of what was touched before', values: [share(footprint.readAgainRatio)] },
      { name: 'writes of what was written before', values: [share(footprint.writtenAgainRatio)] },
    ],
  };
}

function timeSection({ overTime, durationNs }: TraceInfo): ReportSection {
  const { by, intervals } = overTime;
  const line = (name: string, of: (interval: TraceInterval) => number, peak: (most: number) => Quantity): ReportRow => {
    const values = intervals.map(of);
    return { name, values: [series(values), text('at most'), peak(values.reduce((a, b) => Math.max(a, b), 0))] };
  };
  const total = ({ requests }: TraceInterval): number =>
    requests.read + requests.write + requests.flush + requests.discard;
  const readShare = ({ requests: { read, write } }: TraceInterval): number =>
    read + write === 0 ? Number.NaN : read / (read + write);
  const shares = intervals.map(readShare);
  const rows = [
    line('requests', total, count),
    line('read', ({ readBytes }) => readBytes, bytes),
    line('written', ({ writeBytes }) => writeBytes, bytes),
    { name: 'reads of reads and writes', values: [series(shares), text('at most'), ratio(most(shares), 1)] },
  ];
  if (intervals.every(({ workingSetBytes }) => workingSetBytes !== null)) {
    rows.push(line('working set', ({ workingSetBytes }) => workingSetBytes ?? 0, bytes));
    rows.push(line('footprint so far', ({ footprintBytes }) => footprintBytes ?? 0, bytes));
  }
  const title = by === 'time' ? 'Over time' : 'From first to last (all requests have the same time)';
  const interval: ReportRow = { name: 'one interval', values: [duration(durationNs / intervals.length)] };
  return { title, rows: by === 'time' ? [interval, ...rows] : rows };
}

function most(values: readonly number[]): number {
  return values.reduce((a, b) => (b > a ? b : a), 0);
}

/** What the reader met beside requests; nothing is said of what it did not meet. */
function passedOverSection({ counts, action }: TraceInfo): ReportSection[] {
  const names: [string, string][] = [
    ['records', 'records in all'],
    ['otherActions', `events other than ${action}`],
    ['notify', 'notes'],
    ['otherDevices', 'requests of other devices'],
    ['passthrough', 'commands that neither read nor write'],
    ['zoneManagement', 'commands to zones'],
    ['withoutOperation', 'records without an operation'],
    ['skippedZeroLength', 'requests without length'],
    ['requeued', 'requests issued again, counted once'],
    ['malformed', 'malformed'],
    ['truncated', 'files cut short'],
    ['missingFiles', 'missing files of CPUs'],
    ['widened', 'widened to sectors'],
    ['outOfOrder', 'too late to be put in order'],
    ['failed', 'completed with an error'],
    ['preflushes', 'writes with a flush before'],
    ['fuas', 'writes with FUA'],
  ];
  const rows = names
    .filter(([key]) => (counts[key] ?? 0) > 0)
    .map(([key, name]) => ({ name, values: [count(counts[key])] }));
  return [{ title: 'Records', rows }];
}
