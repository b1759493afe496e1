/** Reports of the benchmarks. Pure. */
import type { CheckBenchResult, CrcBenchResult } from '../bench/fsck-bench.js';
import type { JobsBenchResult } from '../bench/jobs-bench.js';
import type { RecoveryBenchResult } from '../bench/recovery-bench.js';
import type { ModelledWritebackResult, ModelledWrites } from '../bench/modelled-writeback.js';
import type { WritebackBenchResult } from '../bench/writeback-bench.js';
import type { RateResult, RequestBenchResult } from '../bench/requests.js';
import type { Spread } from '../bench/spread.js';
import {
  byteRate,
  bytes,
  count,
  duration,
  text,
  type Quantity,
  type ReportSection,
} from '../report-model/report-section.js';
import { formatBytes } from './units.js';

/** `0.97 (0.95–0.99)` */
export function spreadText({ median, min, max }: Spread): string {
  return `${median.toFixed(2)} (${min.toFixed(2)}–${max.toFixed(2)})`;
}

function rateRow(name: string, rate: RateResult) {
  return {
    name,
    values: [
      count(Math.round(rate.requestsPerSecond)),
      byteRate(rate.bytesPerSecond),
      text(`${rate.nsPerRequest.toFixed(0)} ns`),
    ],
  };
}

type Requests = Pick<RequestBenchResult, 'pattern' | 'blockBytes' | 'depth' | 'fuaEvery'>;

/** `randwrite, 4 KiB, depth 32, 1 of 8 writes FUA`; `jobs` stands behind the depth. */
function requestsText({ pattern, blockBytes, depth, fuaEvery }: Requests, jobs = ''): string {
  const writes = fuaEvery > 0 ? `, 1 of ${fuaEvery} writes FUA` : '';
  return `${pattern}, ${formatBytes(blockBytes)}, depth ${depth}${jobs}${writes}`;
}

export function requestBenchReport(result: RequestBenchResult): ReportSection[] {
  const { engine, limit, limitInGroups, ratio, quietest, index } = result;
  const jobs = result.jobs > 1 ? `, ${result.jobs} jobs` : '';
  return [
    {
      title: 'Benchmark',
      rows: [
        {
          name: 'requests',
          values: [text(requestsText(result, jobs))],
        },
        {
          name: 'cache',
          values: [
            text(result.cache),
            bytes(result.cacheBytes),
            text(`data_crc ${result.dataCrc ? 'on' : 'off'}`),
            text(result.durability),
          ],
        },
        { name: 'measured', values: [text(`${result.rounds} rounds, ${result.requests} requests`)] },
        {
          name: 'plain loop',
          values: [text(`${spreadText(quietest.slowdownOfAll)} times its shortest time`)],
        },
      ],
    },
    {
      title: 'Throughput',
      head: ['', 'requests/s', 'bytes/s', 'per request'],
      rows: [
        rateRow('engine', engine),
        rateRow('limit', limit),
        { name: 'ratio', values: [text(spreadText(ratio))] },
        { name: `ratio, quietest ${quietest.rounds} rounds`, values: [text(spreadText(quietest.ratio))] },
        ...(result.depth > 1 ? [rateRow(`limit, in groups of ${result.depth}`, limitInGroups)] : []),
      ],
    },
    {
      title: 'Engine',
      rows: [
        {
          name: result.depth === 1 ? 'latency' : `latency of a group of ${result.depth}`,
          values: [
            text('p50'),
            duration(engine.latency.p50Ns),
            text('p99'),
            duration(engine.latency.p99Ns),
            text('p99.9'),
            duration(engine.latency.p999Ns),
          ],
        },
        { name: 'processor time', values: [text(`${engine.cpuNsPerRequest.toFixed(0)} ns per request`)] },
        {
          name: 'index',
          values: [text(`${index.keys} keys, ${index.bytesPerKey.toFixed(1)} bytes per key`)],
        },
      ],
    },
  ];
}

const rounded = (value: number): Quantity => count(Math.round(value));

export function recoveryBenchReport(result: RecoveryBenchResult): ReportSection[] {
  const what = result.checksPayload ? ', payload checked' : '';
  return [
    {
      title: 'Recovery',
      rows: [
        { name: 'log', values: [text(`${result.keys} keys in ${result.ksets} ksets${what}, ${result.rounds} rounds`)] },
        { name: 'load', values: [rounded(result.keysPerSecond), text('keys/s')] },
        { name: 'index alone', values: [rounded(result.insertsPerSecond), text('keys/s')] },
        { name: 'ratio', values: [text(spreadText(result.ratio))] },
        {
          name: 'index',
          values: [rounded(result.index.entries), text('entries in'), bytes(result.index.memoryBytes)],
        },
      ],
    },
  ];
}

const share = (value: number): Quantity => text(`${(100 * value).toFixed(1)}%`);

export function jobsBenchReport(result: JobsBenchResult): ReportSection[] {
  const { dataCrc, transferNs, steps, scalesTo, lockCeiling } = result;
  const crc = dataCrc ? ', data_crc' : '';
  const last = steps.at(-1)!.jobs;
  const scales =
    scalesTo === last ? `${scalesTo} jobs, the most that were asked for` : `${scalesTo} jobs; more give less than half`;
  return [
    {
      title: 'Modelled jobs',
      rows: [
        { name: 'requests', values: [text(`${requestsText(result)}${crc}`)] },
        { name: 'a cache line from another processor', values: [text(`${transferNs} ns (--transfer-ns)`)] },
        { name: 'not modelled', values: [text('memory bandwidth, write-back')] },
      ],
    },
    {
      title: 'Throughput',
      head: ['', 'requests/s', 'times', 'lock held', 'waits for it', 'lines/request'],
      rows: steps.map((step) => ({
        name: `${step.jobs}`,
        values: [
          rounded(step.requestsPerSecond),
          text(step.times.toFixed(2)),
          share(step.lockHeldShare),
          share(step.lockWaitShare),
          text(step.transfersPerRequest.toFixed(3)),
        ],
      })),
    },
    {
      title: 'Scaling',
      rows: [
        { name: 'scales to', values: [text(scales)] },
        {
          name: 'limit of the lock',
          values: lockCeiling === null ? [text('none: it was not taken')] : [rounded(lockCeiling), text('requests/s')],
        },
      ],
    },
  ];
}

function threadsText(threads: number): string {
  return threads === 1 ? '1 thread' : `${threads} threads`;
}

export function checkBenchReport(result: CheckBenchResult): ReportSection[] {
  return [
    {
      title: 'Payload check',
      rows: [
        {
          name: 'payload',
          values: [bytes(result.payloadBytes), text(`of ${result.keys} keys, ${result.rounds} rounds`)],
        },
        { name: 'fsck', values: [byteRate(result.bytesPerSecond), text(threadsText(result.threads))] },
        { name: 'raw CRC-32C', values: [byteRate(result.crcBytesPerSecond), text(threadsText(1))] },
        { name: 'ratio', values: [text(spreadText(result.ratio))] },
      ],
    },
  ];
}

export function crcBenchReport(result: CrcBenchResult): ReportSection[] {
  return [
    {
      title: `CRC-32C (${result.method})`,
      rows: Object.entries(result.bytesPerSecond).map(([name, rate]) => ({ name, values: [byteRate(rate)] })),
    },
  ];
}

export function writebackBenchReport(result: WritebackBenchResult): ReportSection[] {
  return [
    {
      title: 'Write-back',
      rows: [
        {
          name: 'dirty',
          values: [text(`${result.keys} keys of ${formatBytes(result.blockBytes)}, ${result.rounds} rounds`)],
        },
        {
          name: 'write-back',
          values: [rounded(result.keysPerSecond), text('keys/s'), byteRate(result.bytesPerSecond)],
        },
        { name: 'plain writes', values: [byteRate(result.plainBytesPerSecond)] },
        { name: 'ratio', values: [text(spreadText(result.ratio))] },
        { name: 'total', values: [text(`${result.writes} writes, ${result.flushes} flushes`)] },
      ],
    },
  ];
}

export function modelledWritebackReport(result: ModelledWritebackResult): ReportSection[] {
  const { engine, asWritten, sweep, preset, keys, blocks, blockBytes, spanBytes, dataCrc } = result;
  const row = (name: string, { timeNs, writes, bytesPerWrite, seeks, flushes }: ModelledWrites) => ({
    name,
    values: [
      duration(timeNs),
      text((timeNs / sweep.timeNs).toFixed(2)),
      count(writes),
      bytes(Math.round(bytesPerWrite)),
      count(seeks),
      count(flushes),
    ],
  });
  const crc = dataCrc ? ', data_crc' : '';
  return [
    {
      title: 'Write-back',
      rows: [
        {
          name: 'dirty',
          values: [
            text(`${keys} keys of ${blocks} blocks of ${formatBytes(blockBytes)} in ${formatBytes(spanBytes)}${crc}`),
          ],
        },
        { name: 'backing device', values: [text(`${preset}, modelled`)] },
      ],
    },
    {
      title: 'Time of the backing device',
      head: ['', 'time', 'of bound', 'writes', 'bytes/write', 'seeks', 'flushes'],
      rows: [row('one sweep (bound)', sweep), row('write-back', engine), row('as written', asWritten)],
    },
  ];
}
