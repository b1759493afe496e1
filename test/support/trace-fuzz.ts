/**
 * Traces as they arrive damaged: samples of all formats, cut, flipped, spliced and edited at random, and what must hold of
 * whatever a reader makes of them. The same seed gives the same inputs on every machine.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gunzipSync, gzipSync } from 'node:zlib';
import { PcacheError } from '../../src/engine/index.js';
import type { Random } from '../../src/engine/sim/random.js';
import { openTrace, TRACE_FORMATS, TraceOp, type TraceAction, type TraceOptions } from '../../src/trace/index.js';
import { CASES, TRACE_CASES } from './trace-cases.js';
import { KINDS } from './trace-kinds.js';

const TRACES = new URL('../../fixtures/traces/', import.meta.url).pathname;
const SAMPLE_BYTES_MAX = 8192;
const ACTIONS: readonly TraceAction[] = ['queue', 'issue', 'complete'];
/** Share of inputs that are made of a costly sample, and share of the others that are packed with gzip. */
const COSTLY_SHARE = 1 / 100;
const GZIP_SHARE = 1 / 100;

export interface Sample {
  readonly name: string;
  readonly bytes: Buffer;
  readonly options: Partial<TraceOptions>;
  /** A checksum covers all of it: what is read without a word must be what was packed. */
  readonly isChecked: boolean;
  readonly isText: boolean;
  /** Unpacking it takes many times as long as reading a plain one: drawn seldom. */
  readonly isCostly: boolean;
}

/** What came of an input. */
export interface Outcome {
  readonly error: string | undefined;
  /** A request each; empty after an error. */
  readonly lines: readonly string[];
  readonly format: string;
  readonly warnings: readonly string[];
  readonly counts: Readonly<Record<string, number>>;
}

function binary(name: string, bytes: Uint8Array): Sample {
  return { name, bytes: Buffer.from(bytes), options: {}, isChecked: false, isText: false, isCostly: false };
}

/** Records of 32 or 40 bytes, as docs/traces.md has them. */
function vscsi(version: 1 | 2): Buffer {
  return Buffer.concat(
    Array.from({ length: 12 }, (_, n) => {
      const record = Buffer.alloc(version === 1 ? 32 : 40);
      record.writeUInt16LE(n % 3 === 0 ? 0x2a : 0x28, version === 1 ? 12 : 0);
      record.writeUInt16LE(version << 8, version === 1 ? 14 : 2);
      record.writeUInt32LE(n, version === 1 ? 0 : 4);
      record.writeUInt32LE(4096, version === 1 ? 4 : 8);
      record.writeBigUInt64LE(BigInt(n * 8), 16);
      record.writeBigUInt64LE(BigInt(n * 100), 24);
      return record;
    }),
  );
}

function oracleGeneral(): Buffer {
  const bytes = Buffer.alloc(12 * 24);
  for (let n = 0; n < 12; n++) {
    bytes.writeUInt32LE(n, 24 * n);
    bytes.writeBigUInt64LE(BigInt(8 * n), 24 * n + 4);
    bytes.writeUInt32LE(4096, 24 * n + 12);
    bytes.writeBigInt64LE(-1n, 24 * n + 16);
  }
  return bytes;
}

/** The first records of a recording, in their own length. */
function recording(name: string, headerBytes: number): Buffer {
  const whole = gunzipSync(readFileSync(join(TRACES, name)));
  let end = 0;
  for (let n = 0; n < 60; n++)
    end += headerBytes + whole.readUInt16LE(end + headerBytes - (headerBytes === 64 ? 14 : 2));
  return whole.subarray(0, end);
}

export function makeSamples(): Sample[] {
  const texts = KINDS.map(({ name, text, options }) => ({ name, text, options: options ?? {} }));
  for (const { file, action } of TRACE_CASES) {
    const bytes = readFileSync(join(CASES, file));
    if (/\.(txt|csv|iolog|spc|trace)$/.test(file) && bytes.length <= SAMPLE_BYTES_MAX) {
      texts.push({ name: file, text: bytes.toString('utf8'), options: action === undefined ? {} : { action } });
    }
  }
  const samples: Sample[] = texts.map(({ name, text, options }) => ({
    name,
    bytes: Buffer.from(text),
    options,
    isChecked: false,
    isText: true,
    isCostly: false,
  }));
  const packed = (name: string, isChecked: boolean): Sample => ({
    ...binary(name, readFileSync(join(TRACES, 'kinds', name))),
    isChecked,
    isCostly: true,
  });
  return [
    ...samples,
    binary('blktrace 7', recording('pgbench.blktrace.0.gz', 48)),
    binary('blktrace 8', recording('ext4-fio-v8.blktrace.0.gz', 64)),
    binary('vscsi 1', vscsi(1)),
    binary('vscsi 2', vscsi(2)),
    binary('oracleGeneral', oracleGeneral()),
    packed('requests.csv.xz', true),
    packed('requests-two-streams.csv.xz', true),
    packed('requests.csv.bz2', true),
    packed('requests.tgz', true),
    packed('requests.zip', true),
    packed('requests.csv.lz4', false),
    packed('requests-long-window.csv.zst', false),
    { ...packed('requests-utf16.csv', false), isCostly: false },
    {
      ...binary('requests.csv.gz', gzipSync(readFileSync(join(TRACES, 'kinds', 'requests.csv')))),
      isChecked: true,
      isCostly: true,
    },
  ];
}

// ---- damage -------------------------------------------------------------------------------------------

const NUMBERS = [
  ...['0', '1', '-1', '007', '511', '513', '2147483647', '2147483648', '4294967295', '4294967296', '4294967297'],
  ...['1125899906842624', '2251799813685248', '9007199254740991', '9007199254740992', '18446744073709551615'],
  ...[
    '18446744073709551616',
    '9'.repeat(40),
    '1e3',
    '1e400',
    '-1e400',
    '1.5',
    '.5',
    '5.',
    '0x10',
    '0xffffffffffffffffff',
    'NaN',
    '',
  ],
] as const;
const BYTES = [
  0x00, 0xff, 0x0a, 0x0d, 0x09, 0x20, 0x22, 0x23, 0x2c, 0x2d, 0x2e, 0x2b, 0x30, 0x39, 0x3a, 0x3b, 0x5b, 0x80,
] as const;

function cut(random: Random, bytes: Buffer): Buffer {
  return bytes.subarray(0, random.below(bytes.length + 1));
}

function flipBits(random: Random, bytes: Buffer): Buffer {
  const flipped = Buffer.from(bytes);
  for (let n = random.between(1, 8); n > 0 && flipped.length > 0; n--) {
    flipped[random.below(flipped.length)] ^= 1 << random.below(8);
  }
  return flipped;
}

function setBytes(random: Random, bytes: Buffer): Buffer {
  const changed = Buffer.from(bytes);
  for (let n = random.between(1, 4); n > 0 && changed.length > 0; n--) {
    changed[random.below(changed.length)] = random.pick(BYTES);
  }
  return changed;
}

function splice(random: Random, bytes: Buffer, samples: readonly Sample[]): Buffer {
  const other = random.pick(samples).bytes;
  return Buffer.concat([cut(random, bytes), other.subarray(random.below(other.length))]);
}

function copyPart(random: Random, bytes: Buffer): Buffer {
  const from = random.below(bytes.length + 1);
  const part = bytes.subarray(from, from + random.below(200));
  const to = random.below(bytes.length + 1);
  return Buffer.concat([
    bytes.subarray(0, to),
    part,
    bytes.subarray(random.chance(0.5) ? to : Math.min(bytes.length, to + part.length)),
  ]);
}

function dropPart(random: Random, bytes: Buffer): Buffer {
  const from = random.below(bytes.length + 1);
  return Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + random.below(64))]);
}

/** Puts another number in the place of one. */
function renumber(random: Random, bytes: Buffer): Buffer {
  const text = bytes.toString('latin1');
  const found = [...text.matchAll(/\d+/g)];
  if (found.length === 0) return bytes;
  const { index, 0: number } = random.pick(found);
  return Buffer.from(text.slice(0, index) + random.pick(NUMBERS) + text.slice(index + number.length), 'latin1');
}

function shuffleLines(random: Random, bytes: Buffer): Buffer {
  const lines = bytes.toString('latin1').split('\n');
  const [a, b] = [random.below(lines.length), random.below(lines.length)];
  if (random.chance(0.3)) lines.splice(a, 1);
  else if (random.chance(0.5)) lines.splice(b, 0, lines[a]);
  else [lines[a], lines[b]] = [lines[b], lines[a]];
  return Buffer.from(lines.join(random.chance(0.1) ? '\r\n' : '\n'), 'latin1');
}

/** Sets a field of a binary record to an extreme. */
function setField(random: Random, bytes: Buffer): Buffer {
  const changed = Buffer.from(bytes);
  const at = 4 * random.below(Math.max(1, Math.floor(changed.length / 4) - 2));
  if (at + 8 > changed.length) return changed;
  const value = random.pick([0, 1, 0x7fffffff, 0x80000000, 0xffffffff, random.next()]);
  changed.writeUInt32LE(value, at);
  if (random.chance(0.3)) changed.writeUInt32LE(random.pick([0, 0xffffffff, 2 ** 21]), at + 4);
  return changed;
}

type Mutation = (random: Random, bytes: Buffer, samples: readonly Sample[]) => Buffer;

export interface Input {
  readonly sample: Sample;
  readonly bytes: Buffer;
  /** How it came about, for a failure's message. */
  readonly how: string;
  readonly options: Partial<TraceOptions>;
  /** The sample, cut off and otherwise as it was. */
  readonly isCut: boolean;
}

export function makeInput(random: Random, samples: readonly Sample[]): Input {
  const isCostly = random.chance(COSTLY_SHARE);
  const sample = random.pick(samples.filter((one) => one.isCostly === isCostly));
  let { bytes } = sample;
  const steps: string[] = [];
  const mutations: readonly Mutation[] = [
    ...[cut, flipBits, setBytes, copyPart, dropPart],
    ...(sample.isText ? [renumber, renumber, renumber, shuffleLines, shuffleLines] : [setField, setField]),
    splice,
  ];
  for (let n = random.chance(0.6) ? 1 : random.between(1, 4); n > 0; n--) {
    const mutate = random.pick(mutations);
    bytes = mutate(random, bytes, samples);
    steps.push(mutate.name);
  }
  if (!isCostly && random.chance(GZIP_SHARE)) {
    bytes = gzipSync(bytes);
    steps.push('gzip');
    if (random.chance(0.7)) {
      bytes = random.chance(0.5) ? cut(random, bytes) : flipBits(random, bytes);
      steps.push('damage');
    }
  }
  const options: Partial<TraceOptions> = {
    action: random.chance(0.8) ? (sample.options.action ?? 'queue') : random.pick(ACTIONS),
    allDevices: random.chance(0.9),
    ...(sample.options.table === undefined ? {} : { table: sample.options.table }),
    ...(random.chance(0.05) ? { format: random.pick(TRACE_FORMATS) } : {}),
    ...(random.chance(0.05) ? { malformedLimit: 0 } : {}),
  };
  return { sample, bytes, how: steps.join(', '), options, isCut: steps.length === 1 && steps[0] === 'cut' };
}

// ---- what must hold -----------------------------------------------------------------------------------

/** Reads `bytes` as a stream, in pieces of up to `pieceBytes`. */
export async function read(bytes: Buffer, options: Partial<TraceOptions>, pieceBytes: number): Promise<Outcome> {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += pieceBytes) pieces.push(bytes.subarray(at, at + pieceBytes));
  const nothing = { lines: [], format: '', warnings: [], counts: {} };
  try {
    const reader = await openTrace('-', { action: 'queue', ...options, stdin: Readable.from(pieces) });
    const lines: string[] = [];
    let lastNs = 0;
    for await (const batch of reader.batches()) {
      for (let i = 0; i < batch.count; i++) {
        const [timeNs, offset, length, op] = [batch.timeNs[i], batch.offsetBytes[i], batch.lengthBytes[i], batch.op[i]];
        const isPossible =
          timeNs >= lastNs &&
          Number.isFinite(timeNs) &&
          offset % 512 === 0 &&
          length % 512 === 0 &&
          offset >= 0 &&
          (op === TraceOp.flush ? offset + length === 0 : length > 0) &&
          offset + length <= Number.MAX_SAFE_INTEGER &&
          op <= TraceOp.discard;
        if (!isPossible) throw new Error(`an impossible request: ${[timeNs, op, offset, length].join(' ')}`);
        lastNs = timeNs;
        lines.push(`${timeNs} ${op} ${batch.flags[i]} ${offset} ${length}`);
      }
    }
    const { devices: _, ...counts } = reader.counts;
    return { error: undefined, lines, format: reader.format, warnings: reader.warnings, counts };
  } catch (error) {
    if (!(error instanceof PcacheError)) throw error;
    return { ...nothing, error: `${error.code} ${error.message}` };
  }
}

/** Lines that are requests of a format, whatever else is in them: each must be counted. */
const RECORD_LINES: readonly [format: RegExp, line: RegExp][] = [
  [/^blkparse text/, /^\s*\d+,\d+\s/],
  [/^fio iolog version 2/, /^\S+ (?:read|write|sync|trim|wait) \d+ \d+$/],
  [/^fio iolog version 3/, /^\d+ \S+ (?:read|write|sync|trim) \d+ \d+$/],
  [/^(?:MSR|Alibaba|Tencent|SPC|SYSTOR|pcache|Open CAS|hfplayer)/, /^"?\d+(?:\.\d+)?"?\s*[,;\t|]\s*"?\w+"?\s*[,;\t|]/],
  [/^(?:FIU|DiskSim|MQSim)/, /^\d+(?:\.\d+)?\s+\d+\s/],
  [/^tracepoints/, /\s\d+\.\d{6}:\s+(?:block:)?block_(?:bio_queue|rq_issue|rq_complete|rq_requeue): \d+,\d+ /],
  [/^biosnoop/, /^\d+\.\d+\s+\S+\s/],
  [/^xperf/, /^\s*Disk(?:Read|Write|Flush)\s*,\s*\d/],
];

const CATEGORIES = [
  ...['notify', 'otherActions', 'otherDevices', 'passthrough', 'zoneManagement', 'withoutOperation', 'requeued'],
  ...['skippedZeroLength', 'malformed', 'selected'],
] as const;

/** What is wrong with an outcome, or undefined. */
export function complaint(input: Input, outcome: Outcome, whole: Outcome): string | undefined {
  const { sample, bytes, isCut } = input;
  const { error, lines, counts, warnings, format } = outcome;
  for (const text of error === undefined ? warnings : [error]) {
    if (/[\x00-\x1f\x7f]/.test(text)) return `not one clean line: ${JSON.stringify(text)}`;
    if (text.length > 1000) return `too long a line: ${text.slice(0, 200)}`;
  }
  if (error !== undefined) return /^(?:BAD_TRACE|USAGE) /.test(error) ? undefined : `another error: ${error}`;
  const sum = CATEGORIES.reduce((total, name) => total + counts[name], 0);
  if (sum !== counts['records']) return `${counts['records']} records, but ${sum} in the categories`;
  const kinds = counts['reads'] + counts['writes'] + counts['flushes'] + counts['discards'];
  if (kinds !== counts['selected'] || lines.length !== counts['selected']) {
    return `${counts['selected']} selected, ${kinds} by kind, ${lines.length} delivered`;
  }
  const isSilent = warnings.length === 0 && counts['malformed'] === 0 && counts['truncated'] === 0;
  const isMangled = !input.bytes.equals(sample.bytes);
  if (sample.isChecked && isMangled && isSilent && /flipBits|cut/.test(input.how) && !input.how.includes(',')) {
    const isWhole = lines.length === whole.lines.length && lines.every((line, n) => line === whole.lines[n]);
    if (!isWhole) return `read wrongly without a word: ${lines.length} requests instead of ${whole.lines.length}`;
  }
  if (isCut && sample.isText && isSilent && input.options.format === undefined) {
    const rest = bytes.toString('latin1').split('\n').pop() ?? '';
    const next = sample.bytes.toString('latin1').slice(bytes.length).split('\n')[0];
    const isRecord = RECORD_LINES.some(([of, line]) => of.test(format) && line.test(rest + next));
    if (rest !== '' && isRecord) return `cut within a record without a word: ${JSON.stringify(rest)}`;
  }
  const isPlainText = !/, (?:gzip|zstd|xz|bzip2|lz4|zip|tar|UTF-16)/.test(format);
  const pattern = RECORD_LINES.find(([of]) => of.test(format))?.[1];
  if (isPlainText && pattern !== undefined) {
    const found = bytes
      .toString('latin1')
      .split('\n')
      .filter((line) => pattern.test(line.replace(/\r$/, ''))).length;
    if (found > counts['records'] + counts['truncated'])
      return `${found} lines with requests, ${counts['records']} records`;
  }
  return undefined;
}
