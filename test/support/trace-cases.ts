/**
 * Traces as bug reports bring them, each with its right values. The files are in fixtures/traces/cases; the same names in
 * `$PCACHE_SHARED/cases/traces` are the inputs that the reports were about, with the same values.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TraceAction } from '../../src/trace/index.js';
import type { Requests } from './trace-kinds.js';

export const CASES = fileURLToPath(new URL('../../fixtures/traces/cases/', import.meta.url));

/** The reported files themselves; undefined where they are not at hand. */
export function reportedCases(): string | undefined {
  const shared = process.env['PCACHE_SHARED'];
  const folder = shared === undefined ? undefined : join(shared, 'cases', 'traces');
  return folder !== undefined && existsSync(folder) ? folder : undefined;
}

export interface TraceCase {
  readonly file: string;
  readonly format: string;
  /** Reads, writes, flushes, discards. */
  readonly requests: Requests;
  /** Of reads and writes. */
  readonly bytes: number;
  readonly durationNs: number;
  /** Events that are neither requests nor of another action: each is counted by its kind, and told. */
  readonly leftOut?: Readonly<Record<string, number>>;
  readonly action?: TraceAction;
  /** The error of `replay` alone, which takes one device only. */
  readonly replayError?: string;
  /** The error of all commands. */
  readonly error?: string;
}

const MSR = { format: 'MSR Cambridge CSV', requests: [2, 2, 0, 0], bytes: 61_440, durationNs: 3_332_061_600 } as const;

const twoDevices = (list: string): string => `holds requests of several devices: ${list}; choose one with --device`;

export const TRACE_CASES: readonly TraceCase[] = [
  { file: 'a.csv.bz2', ...MSR, format: 'MSR Cambridge CSV, bzip2' },
  { file: 'a.csv.lz4', ...MSR, format: 'MSR Cambridge CSV, lz4' },
  { file: 'a.csv.xz', ...MSR, format: 'MSR Cambridge CSV, xz' },
  {
    file: 'biosnoop.txt',
    format: 'biosnoop text',
    requests: [1, 2, 0, 0],
    bytes: 28_672,
    durationNs: 13_842_000,
    leftOut: { skippedZeroLength: 1 },
    replayError: twoDevices('vdb (2 requests), vda (1 request)'),
  },
  { file: 'blkparse-f.txt', format: 'blkparse text', requests: [10, 0, 0, 0], bytes: 114_688, durationNs: 341_976_422 },
  { file: 'blkparse-s.txt', format: 'blkparse text', requests: [7, 0, 0, 0], bytes: 28_672, durationNs: 5_739_805 },
  {
    file: 'disksim-ascii.trace',
    format: 'MQSim ASCII trace',
    requests: [1, 2, 0, 0],
    bytes: 24_576,
    durationNs: 20_000,
  },
  { file: 'flush-plus-0.txt', format: 'blkparse text', requests: [0, 1, 3, 0], bytes: 4096, durationNs: 300_000 },
  {
    file: 'ftrace-events.txt',
    format: 'tracepoints as text',
    requests: [0, 0, 0, 0],
    bytes: 0,
    durationNs: 0,
    error:
      'no request in 4 records has the action queue, but 3 of issue and 1 of complete; choose one of these with --action',
  },
  {
    file: 'ftrace-events.txt',
    format: 'tracepoints as text',
    action: 'issue',
    requests: [0, 3, 0, 0],
    bytes: 147_456,
    durationNs: 534_840_000,
  },
  { file: 'huge-offset.csv', format: 'pcache CSV', requests: [1, 0, 0, 0], bytes: 4096, durationNs: 0 },
  {
    file: 'iolog-backwards.iolog',
    format: 'fio iolog version 3',
    requests: [3, 3, 0, 0],
    bytes: 24_576,
    durationNs: 1_000_001_000,
  },
  {
    file: 'iolog2-wait-absolute.iolog',
    format: 'fio iolog version 2',
    requests: [3, 0, 0, 0],
    bytes: 12_288,
    durationNs: 1_500_000_000,
  },
  { file: 'iolog2-wait.csv', format: 'pcache CSV', requests: [21, 0, 0, 0], bytes: 86_016, durationNs: 2_000_000_000 },
  {
    file: 'long-window.csv.zst',
    format: 'MSR Cambridge CSV, zstd',
    requests: [240_000, 240_000, 0, 0],
    bytes: 7_372_800_000,
    durationNs: 3_332_061_600,
  },
  { file: 'msr-negative-resp.csv', ...MSR },
  { file: 'msr-pandas-index.csv', ...MSR },
  { file: 'msr-quoted.csv', ...MSR },
  { file: 'msr-rw.csv', ...MSR },
  { file: 'msr-tabs.csv', ...MSR },
  { file: 'msr-trailing-comma.csv', ...MSR },
  { file: 'own-float.csv', format: 'pcache CSV', requests: [2, 1, 0, 0], bytes: 9216, durationNs: 1000 },
  { file: 'own-quoted-op.csv', format: 'pcache CSV', requests: [1, 1, 0, 0], bytes: 8704, durationNs: 1 },
  { file: 'own-spaces.csv', format: 'pcache CSV', requests: [1, 1, 0, 0], bytes: 8704, durationNs: 1 },
  { file: 'packed.tgz', ...MSR, format: 'MSR Cambridge CSV, gzip, tar' },
  { file: 'packed.zip', ...MSR, format: 'MSR Cambridge CSV, zip' },
  { file: 'requeue.txt', format: 'blkparse text', requests: [0, 3, 1, 0], bytes: 15_044_608, durationNs: 879_369_827 },
  { file: 'short-many-cpus.txt', format: 'blkparse text', requests: [16, 0, 0, 0], bytes: 65_536, durationNs: 30_000 },
  {
    file: 'systor17.csv',
    format: "SYSTOR '17 CSV",
    requests: [1, 1, 0, 0],
    bytes: 135_168,
    durationNs: 100_000_000,
    leftOut: { withoutOperation: 1 },
  },
  { file: 'tab-after-rwbs.txt', format: 'blkparse text', requests: [0, 1, 0, 0], bytes: 4096, durationNs: 0 },
  {
    file: 'two-partitions.blktrace.0',
    format: 'blktrace stream, little-endian',
    requests: [50, 50, 0, 0],
    bytes: 409_600,
    durationNs: 49_500_000,
    replayError: twoDevices('8,1 (50 requests), 8,2 (50 requests)'),
  },
  {
    file: 'umass-financial.spc',
    format: 'SPC trace (UMass)',
    requests: [1, 3, 0, 0],
    bytes: 13_312,
    durationNs: 26_214_000,
    replayError: twoDevices('0 (2 requests), 1 (2 requests)'),
  },
  {
    file: 'zone-append.txt',
    format: 'blkparse text',
    requests: [0, 40, 0, 0],
    bytes: 2_560_000,
    durationNs: 3_900_000,
  },
  {
    file: 'zoned-ok.txt',
    format: 'blkparse text',
    requests: [1, 5, 2, 2],
    bytes: 1_142_784,
    durationNs: 910_000,
    leftOut: { zoneManagement: 1 },
  },
];
