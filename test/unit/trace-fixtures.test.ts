/** The readers over recordings of a real kernel, against what blkparse made of them (fixtures/traces/README.md). */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { scanTrace } from '../../src/trace/index.js';
import {
  ACTIONS,
  FIXTURES,
  RECORDINGS,
  readTrace,
  swapped,
  temporaryDirectory,
  unpackedFixture,
} from './trace-support.js';
import type { ReadTrace } from './trace-support.js';

const directory = temporaryDirectory();

/** The table of the README: the one place these numbers are kept. */
const expected = new Map(
  [
    ...readFileSync(join(FIXTURES, 'README.md'), 'utf8').matchAll(
      /^\| `(\S+)` (queue|issue|complete) \|(.*)\| `(\w+)` \|$/gm,
    ),
  ].map((row) => {
    const [records, reads, writes, flushes, discards, skippedZeroLength] = row[3].split('|').map(Number);
    return [
      `${row[1]} ${row[2]}`,
      { counts: { records, reads, writes, flushes, discards, skippedZeroLength }, digest: row[4] },
    ];
  }),
);

function digestOf(lines: string[]): string {
  return createHash('sha256')
    .update(lines.map((line) => `${line}\n`).join(''))
    .digest('hex')
    .slice(0, 16);
}

function check(name: string, action: string, got: ReadTrace): void {
  const want = expected.get(`${name} ${action}`);
  expect(got.counts).toMatchObject({
    ...want?.counts,
    malformed: 0,
    passthrough: 0,
    outOfOrder: 0,
    truncated: 0,
    failed: 0,
  });
  expect(digestOf(got.lines)).toBe(want?.digest);
  expect(got.warnings).toEqual([]);
  expect([...got.counts.devices]).toEqual([['254,0', got.lines.length]]);
  const { notify, otherActions, otherDevices, skippedZeroLength, selected, records, reads, writes, flushes, discards } =
    got.counts;
  expect(notify + otherActions + otherDevices + skippedZeroLength + selected).toBe(records);
  expect(reads + writes + flushes + discards).toBe(selected);
  expect(got.lines.length).toBe(selected);
}

it('has an expectation for every recording and action', () => {
  expect(expected.size).toBe(RECORDINGS.length * ACTIONS.length);
});

describe.each(RECORDINGS)('%s', (name) => {
  const [cpu0, cpu1] = [unpackedFixture(name, 0), unpackedFixture(name, 1)];
  writeFileSync(join(directory, `${name}.blktrace.0`), cpu0);
  writeFileSync(join(directory, `${name}.blktrace.1`), cpu1);
  const big = join(directory, `${name}-big`);
  writeFileSync(`${big}.blktrace.0`, swapped(cpu0));
  writeFileSync(`${big}.blktrace.1`, swapped(cpu1));
  const mixed = join(directory, `${name}-mixed`);
  writeFileSync(`${mixed}.blktrace.0`, swapped(cpu0));
  writeFileSync(`${mixed}.blktrace.1.gz`, gzipSync(cpu1));

  it.each(ACTIONS)('%s: every request is as blkparse prints it, packed', async (action) => {
    const got = await readTrace(join(FIXTURES, name), { action });
    check(name, action, got);
    expect(got.reader.format).toBe('blktrace recording of 2 CPUs, little-endian, gzip');
    expect(got.reader.files).toEqual([0, 1].map((cpu) => join(FIXTURES, `${name}.blktrace.${cpu}.gz`)));
  });

  it('is the same unpacked, by either base name', async () => {
    check(name, 'queue', await readTrace(join(directory, name)));
    check(name, 'queue', await readTrace(join(directory, `${name}.blktrace`)));
  });

  it.each(ACTIONS)('%s: is the same from a machine of the other byte order', async (action) => {
    const got = await readTrace(big, { action });
    check(name, action, got);
    expect(got.reader.format).toBe('blktrace recording of 2 CPUs, big-endian');
  });

  it('is the same with a byte order per file', async () => {
    const got = await readTrace(mixed);
    check(name, 'queue', got);
    expect(got.reader.format).toBe('blktrace recording of 2 CPUs, mixed byte orders, gzip');
  });

  it('is the whole recording when one of its files is named', async () => {
    const one = await readTrace(join(directory, `${name}.blktrace.1`));
    const both = await readTrace(join(directory, name));
    expect(one.reader.files).toEqual([0, 1].map((cpu) => join(directory, `${name}.blktrace.${cpu}`)));
    expect(one.lines.length).toBeGreaterThan(0);
    expect(one.lines).toEqual(both.lines);
  });

  it.each([
    ['as it is', 65536, (bytes: Buffer) => bytes],
    ['packed', 1000, (bytes: Buffer) => gzipSync(bytes)],
    ['in the other byte order', 4099, swapped],
    ['in tiny pieces', 7, (bytes: Buffer) => bytes.subarray(0, 48 * 2000)],
  ])('is the same from standard input, %s', async (_, pieceBytes, make) => {
    const bytes = make(cpu0);
    const file = join(directory, `${name}.piece`);
    writeFileSync(file, bytes);
    const stdin = Readable.from(
      (function* () {
        for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
      })(),
    );
    const got = await readTrace('-', { stdin });
    expect(got.lines).toEqual((await readTrace(file)).lines);
    expect(got.lines.length).toBeGreaterThan(100);
    expect(got.reader.name).toBe('standard input');
    expect(stdin.destroyed).toBe(true);
  });

  it('has a footprint that agrees with its requests', async () => {
    const { lines } = await readTrace(join(FIXTURES, name));
    const blocks = new Set<number>();
    let end = 0;
    for (const line of lines) {
      const [, rwbs, sector, bytes] = line.split(' ');
      if (!/^F?[RW]/.test(rwbs)) continue;
      end = Math.max(end, Number(sector) * 512 + Number(bytes));
      for (let at = Number(sector) * 512; at < Number(sector) * 512 + Number(bytes); at += 512)
        blocks.add(Math.floor(at / 4096));
    }
    const footprint = await scanTrace(join(FIXTURES, name), { action: 'queue' });
    expect(footprint).toMatchObject({ endBytes: end, uniqueBytes: blocks.size * 4096, warnings: [] });
    expect(footprint.durationNs).toBe(Number(lines.at(-1)?.split(' ')[0]));
    expect(footprint.counts.selected).toBe(lines.length);
    expect(end).toBeLessThanOrEqual(name === 'pgbench' ? 2 ** 32 : 2 ** 31);
  });
});
