/**
 * Every kind of trace that people have, each with a small sample: what it is taken for, its requests by kind, how long it
 * lasts, and what else is counted. The samples of docs/traces.md are these.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { tableOfColumns } from '../../src/trace/columns.js';
import type { TraceAction } from '../../src/trace/index.js';
import { KINDS, type Requests } from '../support/trace-kinds.js';
import { openFilesIn, readTrace, temporaryDirectory } from './trace-support.js';

vi.setConfig({ testTimeout: 120_000 });

const directory = temporaryDirectory();
const FIXTURES = new URL('../../fixtures/traces/', import.meta.url).pathname;

function file(name: string, content: Uint8Array | string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

describe('a trace of the kind', () => {
  it.each(KINDS)('"$name" gives its requests, and what is left out is counted', async (kind) => {
    const path = file('kind', kind.text);
    const { reader, counts, lines } = await readTrace(path, kind.options ?? {});
    const [reads, writes, flushes, discards] = kind.requests;
    expect(reader.format).toBe(kind.format);
    expect(counts).toMatchObject({ reads, writes, flushes, discards, malformed: 0, truncated: 0, ...kind.counts });
    expect(lines).toHaveLength(reads + writes + flushes + discards);
    expect(Number(lines[lines.length - 1].split(' ')[0])).toBe(kind.durationNs);
    expect(openFilesIn(directory)).toEqual([]);
  });
});

describe('a packed trace', () => {
  const want = ['0 R 0 8192', '1000000 R 112 8192'];
  it.each([
    ['requests.csv', 'MSR Cambridge CSV'],
    ['requests.csv.xz', 'MSR Cambridge CSV, xz'],
    ['requests.csv.bz2', 'MSR Cambridge CSV, bzip2'],
    ['requests.csv.lz4', 'MSR Cambridge CSV, lz4'],
    ['requests.zip', 'MSR Cambridge CSV, zip'],
    ['requests.tgz', 'MSR Cambridge CSV, gzip, tar'],
    ['requests-long-window.csv.zst', 'MSR Cambridge CSV, zstd'],
    ['requests-utf16.csv', 'MSR Cambridge CSV, UTF-16'],
  ])('%s is read like what is in it', async (name, format) => {
    const { reader, lines, counts } = await readTrace(join(FIXTURES, 'kinds', name));
    expect(reader.format).toBe(format);
    expect(lines.slice(0, 2)).toEqual(want);
    expect(counts).toMatchObject({ reads: 30, writes: 10, malformed: 0, truncated: 0 });
  });

  it('of several xz streams is read to its end', async () => {
    const { counts } = await readTrace(join(FIXTURES, 'kinds', 'requests-two-streams.csv.xz'));
    expect(counts).toMatchObject({ reads: 60, writes: 20 });
  });

  it.each(['csv.xz', 'csv.bz2', 'csv.lz4', 'zip'])('that ends early within its %s data says so', async (end) => {
    const whole = readFileSync(join(FIXTURES, 'kinds', `requests.${end}`));
    const path = file(`cut.${end}`, whole.subarray(0, whole.length - 120));
    const outcome = await readTrace(path).then(
      ({ counts, warnings }) => [String(counts.truncated), ...warnings].join(),
      (error: { code: string; message: string }) => `${error.code} ${error.message}`,
    );
    expect(outcome).toMatch(/^1,.* data end early|BAD_TRACE .* data end before anything can be read of them/);
  });
});

describe('one run recorded by blktrace version 8 and by tracepoints', () => {
  it.each<[TraceAction, Requests]>([
    ['queue', [175, 331, 17, 11]],
    ['issue', [175, 195, 64, 11]],
    ['complete', [175, 195, 64, 11]],
  ])('gives the same requests with the action %s', async (action, [reads, writes, flushes, discards]) => {
    const what = (lines: readonly string[]): string[] => lines.map((line) => line.slice(line.indexOf(' ') + 1)).sort();
    const blktrace = await readTrace(join(FIXTURES, 'ext4-fio-v8'), { action });
    const text = await readTrace(join(FIXTURES, 'ext4-fio-tracepoints.txt.gz'), { action });
    expect(blktrace.reader.format).toBe('blktrace recording of 2 CPUs, version 8, little-endian, gzip');
    expect(blktrace.counts).toMatchObject({ reads, writes, flushes, discards, malformed: 0 });
    expect(what(text.lines)).toEqual(what(blktrace.lines));
  });
});

describe('what is not a trace is refused in one line that says what to do', () => {
  it.each([
    [
      "bpftrace's biosnoop",
      'TIME(ms)     DISK    COMM             PID    LAT(ms)\n611 nvme0n1 bash 4179 10\n',
      'does not say where on the disk',
    ],
    ['a table of five numbers', '1,2,3,0,5\n2,3,4,1,5\n', 'a CSV of five numbers a line'],
    ['a table of unknown columns', 'a,b,c\n1,2,3\n', 'any other table can be read with --columns'],
  ])('%s', async (_, text, why) => {
    await expect(readTrace(file('refused', text))).rejects.toThrow(why);
  });
});

describe('a time that is not one', () => {
  it.each([
    [
      'csv',
      'time_ns,op,offset_bytes,length_bytes\n1,read,0,512\n1e999,read,0,512\n2,read,0,512\n',
      "column 1 (time_ns): '1e999' is not a number",
    ],
    [
      'blkparse',
      `8,0 0 1 0.000000000 1 Q R 8 + 8 [x]\n8,0 0 1 ${'9'.repeat(400)}.000000000 1 Q R 8 + 8 [x]\n`,
      'its time is out of range',
    ],
  ])('in %s is malformed, and the requests beside it keep theirs', async (_, text, why) => {
    const { reader, lines } = await readTrace(file('time', text));
    expect(reader.malformed).toMatchObject([{ why }]);
    expect(lines.every((line) => Number(line.split(' ')[0]) <= 1)).toBe(true);
  });
});

describe('columns that the user names', () => {
  it.each([
    ['time=1', 'its unit is missing: one of s, ms, us, 100ns, ns'],
    ['offset=0:bytes', 'columns are counted from 1'],
    ['offset=1:bytes,length=1:bytes', 'column 1 is given twice'],
    ['op=1:0/1,offset=2:bytes', 'what "0" does is not known: say it as op=2:0=read/1=write'],
    ['length=1:bytes', 'no column holds the offset'],
    ['where=1', 'a column is one of time, op, offset, length, device'],
  ])('%s are refused: %s', (columns, why) => {
    expect(() => tableOfColumns({ columns })).toThrow(why);
  });

  it('can be kept in a file under a name', async () => {
    const path = file(
      'definitions.json',
      JSON.stringify({ lab: { columns: 'op=1:0=write/1=read,offset=2:blocks', separator: ';' } }),
    );
    const table = tableOfColumns({ columns: 'lab', file: path });
    const { lines } = await readTrace(file('lab.csv', '0;1\n1;2\n'), { table });
    expect(lines).toEqual(['0 W 8 4096', '0 R 16 4096']);
    expect(() => tableOfColumns({ columns: 'other', file: path })).toThrow('holds no definition "other"');
  });
});
