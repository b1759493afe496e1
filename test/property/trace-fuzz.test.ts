/**
 * Damaged traces of every format: whatever the bytes, the readers end, either with an error of theirs or with requests
 * that a device could get, and their tally adds up.
 */
import fc from 'fast-check';
import { Readable } from 'node:stream';
import { describe, expect, it, vi } from 'vitest';
import { PcacheError } from '../../src/engine/errors.js';
import { convertTrace, openTrace, TRACE_FORMATS, TraceOp, WRITE_FORMATS } from '../../src/trace/index.js';
import type { TableDefinition, TraceFormat, WriteFormat } from '../../src/trace/index.js';
import { countOf } from '../support/long.js';
import { KINDS } from '../support/trace-kinds.js';

const CSV =
  'time_ns,op,offset_bytes,length_bytes,flags,device\n' +
  Array.from(
    { length: 40 },
    (_, i) =>
      `${i * 1_234_567},${['write', 'read', 'flush', 'discard'][i % 4]},${i * 4096},${i % 4 === 2 ? 0 : 4096},sync,"8,${i % 2}"\n`,
  ).join('');

const READS_AS: Record<WriteFormat, TraceFormat> = {
  'csv': 'csv',
  'blkparse': 'blkparse',
  'iolog2': 'iolog',
  'iolog3': 'iolog',
  'msr': 'msr',
  'alibaba': 'alibaba',
  'tencent': 'tencent',
  'vscsi1': 'vscsi1',
  'vscsi2': 'vscsi2',
  'oracle-general': 'oracle-general',
};

async function sample(to: WriteFormat): Promise<Buffer> {
  const pieces: Buffer[] = [];
  await convertTrace({
    trace: '-',
    options: { action: 'queue', device: '8,0', stdin: Readable.from([Buffer.from(CSV)]) },
    to,
    gzip: false,
    sink: (bytes) => {
      pieces.push(Buffer.from(bytes));
      return Promise.resolve();
    },
    progress: () => undefined,
    turn: () => Promise.resolve(),
  });
  return Buffer.concat(pieces);
}

/** Reads `bytes`, holds every request against what a device can get. @returns false when they were refused */
async function readAll(
  bytes: Buffer,
  format: TraceFormat | undefined,
  cut: number,
  table?: TableDefinition,
): Promise<boolean> {
  const stdin = Readable.from([bytes.subarray(0, cut), bytes.subarray(cut)].filter((piece) => piece.length > 0));
  try {
    const options = { ...(format === undefined ? {} : { format }), ...(table === undefined ? {} : { table }) };
    const reader = await openTrace('-', { action: 'queue', stdin, allDevices: true, ...options });
    let selected = 0;
    let lastNs = 0;
    for await (const batch of reader.batches()) {
      selected += batch.count;
      for (let i = 0; i < batch.count; i++) {
        const [offset, length, timeNs] = [batch.offsetBytes[i], batch.lengthBytes[i], batch.timeNs[i]];
        const possible =
          offset % 512 === 0 &&
          length % 512 === 0 &&
          offset >= 0 &&
          Number.isSafeInteger(offset + length) &&
          (batch.op[i] === TraceOp.flush ? length === 0 : length > 0) &&
          timeNs >= lastNs &&
          timeNs < Infinity &&
          batch.device[i] < reader.deviceNames.length &&
          batch.op[i] <= 3 &&
          batch.flags[i] < 32;
        if (!possible) throw new Error(`request ${i}: ${timeNs} ${batch.op[i]} ${batch.flags[i]} ${offset} ${length}`);
        lastNs = timeNs;
      }
    }
    const c = reader.counts;
    expect(c.selected).toBe(selected);
    expect(c.reads + c.writes + c.flushes + c.discards).toBe(selected);
    expect(
      c.notify +
        c.otherActions +
        c.otherDevices +
        c.passthrough +
        c.zoneManagement +
        c.withoutOperation +
        c.requeued +
        c.skippedZeroLength +
        c.malformed +
        selected,
    ).toBe(c.records);
    return true;
  } catch (error) {
    if (error instanceof PcacheError && error.code === 'BAD_TRACE') return false;
    throw error;
  }
}

/** Bytes that matter to some format, and any other. */
const byte = fc.oneof(fc.constantFrom(...Buffer.from('0123456789,. \n\r\t"|+-RWDFQx[(#')), fc.nat(255));
const change = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  remove: fc.nat(12),
  insert: fc.array(byte, { maxLength: 25 }),
});

/** @param from the bytes before stay as they are */
function damaged(
  bytes: Buffer,
  from: number,
  changes: readonly { at: number; remove: number; insert: number[] }[],
): Buffer {
  let result = bytes;
  for (const { at, remove, insert } of changes) {
    const place = from + Math.floor(at * Math.max(0, result.length - from));
    result = Buffer.concat([result.subarray(0, place), Buffer.from(insert), result.subarray(place + remove)]);
  }
  return result;
}

describe.each(WRITE_FORMATS)('%s', (to) => {
  it('is read or refused when it is damaged anywhere', async () => {
    const whole = await sample(to);
    expect(await readAll(whole, undefined, 5)).toBe(true);
    let read = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(change, { minLength: 1, maxLength: 8 }),
        fc.nat(2000),
        fc.boolean(),
        fc.constantFrom(0, 80),
        async (changes, cut, said, from) => {
          if (await readAll(damaged(whole, from, changes), said ? READS_AS[to] : undefined, cut)) read++;
        },
      ),
      { numRuns: 200 },
    );
    expect(read).toBeGreaterThan(20);
  });
});

it('random bytes named as any format are read or refused', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(byte, { maxLength: 600 }),
      fc.option(fc.constantFrom(...TRACE_FORMATS), { nil: undefined }),
      async (bytes, format) => {
        await readAll(Buffer.from(bytes), format, 100);
      },
    ),
    { numRuns: 1000 },
  );
});

vi.setConfig({ testTimeout: 120_000 });

it.each(['1f8b08', '28b52ffd0058', '502a4d1804000000'])(
  'random bytes that begin as a packed file (%s) are read or refused',
  async (start) => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => {
        await readAll(Buffer.concat([Buffer.from(start, 'hex'), bytes]), undefined, 3);
      }),
      { numRuns: 300 },
    );
  },
);

/** Inputs of each kind of trace; `PCACHE_TRACE_FUZZ` sets another number. */
const RUNS = Number(process.env.PCACHE_TRACE_FUZZ ?? countOf({ share: 40, all: 250 }));

/** Changes that know of lines and fields: one repeated, dropped, swapped with another, or made something else. */
const VALUES = [
  '',
  '-1',
  '0',
  '1e999',
  '0x',
  '18446744073709551615',
  '9007199254740993',
  '"',
  'R',
  'FF',
  '\0',
  'NaN',
  '１',
];
const structural = fc.record({
  line: fc.nat(1000),
  field: fc.nat(1000),
  kind: fc.constantFrom('repeat', 'drop', 'swap', 'value', 'cut', 'join'),
  value: fc.constantFrom(...VALUES),
});

function mutated(
  text: string,
  changes: readonly { line: number; field: number; kind: string; value: string }[],
): string {
  let lines = text.split('\n');
  for (const { line, field, kind, value } of changes) {
    const at = line % lines.length;
    if (kind === 'repeat')
      lines = [...lines.slice(0, at), ...Array<string>(1 + (field % 300)).fill(lines[at]), ...lines.slice(at)];
    else if (kind === 'drop') lines.splice(at, 1);
    else if (kind === 'swap') [lines[at], lines[field % lines.length]] = [lines[field % lines.length], lines[at]];
    else if (kind === 'cut') lines[at] = lines[at].slice(0, field % (lines[at].length + 1));
    else if (kind === 'join') lines.splice(at, 2, `${lines[at]}${lines[at + 1] ?? ''}`);
    else {
      const parts = lines[at].split(/([,\s;|]+)/);
      parts[field % parts.length] = value;
      lines[at] = parts.join('');
    }
    if (lines.length === 0) lines = [''];
  }
  return lines.join('\n');
}

describe.each(KINDS)('the sample "$name"', ({ text, options }) => {
  it('with lines and fields changed is read or refused', { timeout: 120_000 + RUNS * 100 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(structural, { minLength: 1, maxLength: 6 }),
        fc.array(change, { maxLength: 2 }),
        fc.nat(500),
        async (changes, bytes, cut) => {
          await readAll(damaged(Buffer.from(mutated(text, changes)), 0, bytes), undefined, cut, options?.table);
        },
      ),
      { numRuns: RUNS },
    );
  });
});
