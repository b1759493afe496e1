/** What becomes of each kind of record, of time, order and devices: on records made here. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { openTrace, TraceFlag, TraceOp } from '../../src/trace/index.js';
import { act, Bit, readTrace, record, recording, SDA, SDB, temporaryDirectory } from './trace-support.js';
import type { RecordFields } from './trace-support.js';

const directory = temporaryDirectory();
const { read, write, flush, sync, queue, issue, complete, fs, pc, notify, ahead, meta, discard, drvData, fua } = Bit;

function stdinOf(...fields: RecordFields[]): { stdin: Readable } {
  return { stdin: Readable.from([recording(...fields)]) };
}

describe('a record', () => {
  const delivered: [string, RecordFields, string, object][] = [
    ['read', { sector: 8n, action: act(1, queue, read) }, '0 R 8 4096', { reads: 1 }],
    ['read-ahead of metadata', { action: act(1, queue, read, ahead, meta) }, '0 RAM 0 4096', { reads: 1 }],
    ['write', { sector: 3n, bytes: 512 }, '0 W 3 512', { writes: 1, preflushes: 0, fuas: 0 }],
    [
      'flush, write and FUA in one',
      { action: act(1, queue, write, flush, fua, sync) },
      '0 FWFS 0 4096',
      { writes: 1, preflushes: 1, fuas: 1, flushes: 0 },
    ],
    [
      'write with a flush before it',
      { action: act(1, queue, write, flush) },
      '0 FW 0 4096',
      { writes: 1, preflushes: 1, fuas: 0 },
    ],
    ['FUA write', { action: act(1, queue, write, fua, meta) }, '0 WFM 0 4096', { writes: 1, preflushes: 0, fuas: 1 }],
    [
      'flush as a file system asks for it',
      { bytes: 0, action: act(1, queue, write, flush, sync) },
      '0 FS 0 0',
      { flushes: 1, writes: 0, preflushes: 0 },
    ],
    [
      'flush at no sector',
      { bytes: 0, sector: 2n ** 64n - 1n, action: act(1, queue, write, flush) },
      '0 F 0 0',
      { flushes: 1 },
    ],
    [
      'flush as the driver gets it',
      { bytes: 0, action: act(1, queue, read, flush) },
      '0 F 0 0',
      { flushes: 1, reads: 0 },
    ],
    [
      'discard',
      { sector: 2048n, bytes: 2 ** 32 - 512, action: act(1, queue, write, discard, sync) },
      '0 DS 2048 4294966784',
      { discards: 1, writes: 0 },
    ],
    ['write from a cgroup', { pdu: 8, action: act(0x101, queue, write) }, '0 W 0 4096', { writes: 1 }],
    [
      'write at the end of what a number holds',
      { sector: 2n ** 44n - 8n, bytes: 3584 },
      '0 W 17592186044408 3584',
      { writes: 1 },
    ],
  ];
  it.each(delivered)('%s is delivered', async (_, fields, line, counts) => {
    const got = await readTrace('-', stdinOf(fields));
    expect(got.lines).toEqual([line]);
    expect(got.counts).toMatchObject({ records: 1, selected: 1, ...counts });
  });

  const passedOver: [string, RecordFields, object][] = [
    ['process name', { action: act(0, notify), pdu: 16 }, { notify: 1 }],
    ['clock mark, whose low bits look like a queue event', { action: act(1, notify), pdu: 8 }, { notify: 1 }],
    ['message from a cgroup', { action: act(0x102, notify), pdu: 21 }, { notify: 1 }],
    ['issue', { action: act(7, issue, write, fs) }, { otherActions: 1 }],
    ['merge', { action: act(2, queue, write) }, { otherActions: 1 }],
    ['remap', { action: act(15, queue, write), pdu: 16 }, { otherActions: 1 }],
    ['driver data', { action: act(17, drvData), pdu: 9 }, { otherActions: 1 }],
    ['number that means nothing', { action: act(0xfe01, queue, write) }, { otherActions: 1 }],
    ['event without length', { bytes: 0, action: act(1, queue, write, sync) }, { skippedZeroLength: 1 }],
    ['part of a sector', { bytes: 100 }, { malformed: 1 }],
    ['sector beyond every disk', { sector: 2n ** 44n }, { malformed: 1 }],
    ['sector far beyond', { sector: 2n ** 63n }, { malformed: 1 }],
    ['request without direction', { action: act(1, queue) }, { malformed: 1 }],
  ];
  it.each(passedOver)('%s is counted and passed over', async (_, fields, counts) => {
    const got = await readTrace('-', stdinOf(fields, { sector: 99n }));
    expect(got.lines).toEqual(['0 W 99 4096']);
    expect(got.counts).toMatchObject({ records: 2, selected: 1, ...counts });
  });

  it('command that bypasses the block layer is passed over where it shows, at issue', async () => {
    const got = await readTrace('-', {
      action: 'issue',
      ...stdinOf({ bytes: 512, action: act(7, issue, read, pc) }, { sector: 5n, action: act(7, issue, read, fs) }),
    });
    expect(got.lines).toEqual(['0 R 5 4096']);
    expect(got.counts).toMatchObject({ passthrough: 1, selected: 1 });
  });

  it('completion with an error is delivered and counted', async () => {
    const got = await readTrace('-', {
      action: 'complete',
      ...stdinOf({ error: 5, action: act(8, complete, read, fs) }),
    });
    expect(got.lines).toEqual(['0 R 0 4096']);
    expect(got.counts.failed).toBe(1);
  });

  it('that is a flush does not also ask for one before itself', async () => {
    const reader = await openTrace('-', {
      action: 'queue',
      ...stdinOf({ bytes: 0, action: act(1, queue, write, flush, sync) }),
    });
    for await (const batch of reader.batches()) {
      expect([batch.count, batch.op[0], batch.flags[0]]).toEqual([1, TraceOp.flush, TraceFlag.sync]);
    }
    expect(reader.counts.flushes).toBe(1);
  });

  it('with the longest payload is skipped whole, over and over', async () => {
    const fields = Array.from({ length: 40 }, (_, i) => ({ sector: BigInt(i), timeNs: BigInt(i), pdu: 0xffff }));
    const got = await readTrace('-', stdinOf(...fields));
    expect(got.lines).toEqual(fields.map((_, i) => `${i} W ${i} 4096`));
  });
});

describe('time', () => {
  it('is exact on a machine that is up for longer than a double counts nanoseconds', async () => {
    const start = 2n ** 53n + 2n ** 32n - 1n;
    const got = await readTrace(
      '-',
      stdinOf({ timeNs: start }, { timeNs: start + 1n }, { timeNs: start + 2n }, { timeNs: start + 3n }),
    );
    expect(got.lines.map((line) => line.split(' ')[0])).toEqual(['0', '1', '2', '3']);
  });

  it('starts at the earliest request, wherever that is', async () => {
    writeFileSync(
      join(directory, 'start.blktrace.0'),
      recording({ timeNs: 50n, action: act(0, notify) }, { timeNs: 500n, sector: 1n }, { timeNs: 400n, sector: 2n }),
    );
    writeFileSync(join(directory, 'start.blktrace.1'), recording({ timeNs: 300n, sector: 3n }));
    expect((await readTrace(join(directory, 'start'))).lines).toEqual(['0 W 3 4096', '100 W 2 4096', '200 W 1 4096']);
  });
});

describe('order', () => {
  /** Requests 0, 1, 2 … by time and sector. */
  const ordered = (count: number): RecordFields[] =>
    Array.from({ length: count }, (_, i) => ({ timeNs: BigInt(10 * i), sector: BigInt(i), sequence: i }));
  const sectors = (lines: string[]): number[] => lines.map((line) => Number(line.split(' ')[2]));
  const times = (lines: string[]): number[] => lines.map((line) => Number(line.split(' ')[0]));
  const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

  it('is restored where a request comes up to 8192 too late, or far too early', async () => {
    const fields = ordered(80_000);
    fields.splice(9000 + 8192, 0, ...fields.splice(9000, 1));
    fields.splice(70_000, 0, ...fields.splice(78_000, 1));
    const got = await readTrace('-', { stdin: Readable.from(fields.map((one) => record(one))) });
    expect(sectors(got.lines)).toEqual(upTo(80_000));
    expect(got.counts.outOfOrder).toBe(0);
    expect(got.warnings).toEqual([]);
  });

  it('of what comes later than that is given up, but not the request', async () => {
    const fields = ordered(80_000);
    fields.splice(20_000, 0, ...fields.splice(5000, 1));
    writeFileSync(join(directory, 'late.blktrace.0'), Buffer.concat(fields.map((one) => record(one))));
    writeFileSync(join(directory, 'late.blktrace.1'), '');
    const got = await readTrace(join(directory, 'late'));
    expect(got.counts.outOfOrder).toBe(1);
    expect(sectors(got.lines).sort((a, b) => a - b)).toEqual(upTo(80_000));
    expect(sectors(got.lines).indexOf(5000)).toBeGreaterThan(5000);
    const inTime = times(got.lines);
    expect(inTime.every((time, i) => i === 0 || time >= inTime[i - 1])).toBe(true);
    expect(got.warnings).toEqual([
      `${join(directory, 'late')}: 1 request came too late in their file to be put in order; are several recordings in one file?`,
    ]);
  });

  it('at the same time is by sequence, then by file', async () => {
    writeFileSync(
      join(directory, 'same.blktrace.0'),
      recording({ sequence: 7, sector: 2n }, { sequence: 5, sector: 1n }, { sequence: 9, sector: 4n }),
    );
    writeFileSync(
      join(directory, 'same.blktrace.1'),
      recording({ sequence: 3, sector: 0n }, { sequence: 7, sector: 3n }),
    );
    expect(sectors((await readTrace(join(directory, 'same'))).lines)).toEqual([0, 1, 2, 3, 4]);
  });

  it('is kept over eleven files of different lengths with gaps in their numbers', async () => {
    const perFile: RecordFields[][] = Array.from({ length: 11 }, () => []);
    let state = 12345;
    for (const fields of ordered(40_000)) {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      perFile[Math.min(state >>> 28, 10)].push(fields);
    }
    perFile.forEach((fields, i) => writeFileSync(join(directory, `many.blktrace.${3 * i}`), recording(...fields)));
    const got = await readTrace(join(directory, 'many'));
    expect(got.reader.files.map((file) => Number(file.split('.').at(-1)))).toEqual(upTo(11).map((i) => 3 * i));
    expect(sectors(got.lines)).toEqual(upTo(40_000));
  });

  it('comes in batches of one reused object', async () => {
    const reader = await openTrace('-', { action: 'queue', ...stdinOf(...ordered(10_000)) });
    const seen: unknown[] = [];
    const sizes: number[] = [];
    for await (const batch of reader.batches()) {
      seen.push(batch);
      sizes.push(batch.count);
    }
    expect(sizes).toEqual([4096, 4096, 1808]);
    expect(new Set(seen).size).toBe(1);
  });
});

describe('devices', () => {
  const two = [
    { sector: 1n },
    { sector: 2n, device: SDB },
    { sector: 3n },
    { action: act(7, issue, write), device: (9 << 20) | 127 },
  ];

  it('of several with requests, one must be chosen; the error counts them all', async () => {
    const many = Array.from({ length: 20_000 }, () => ({}));
    await expect(
      readTrace('-', stdinOf(...many, { device: SDB }, ...many, { device: SDB, bytes: 512 })),
    ).rejects.toMatchObject({
      code: 'BAD_TRACE',
      message:
        'standard input: holds requests of several devices: 8,0 (40000 requests), 8,16 (2 requests); choose one with --device',
    });
  });

  it('are looked for in all files before the error', async () => {
    writeFileSync(join(directory, 'two.blktrace.0'), recording({}, { device: SDB }, {}));
    writeFileSync(join(directory, 'two.blktrace.1'), recording({}, { device: SDB }, { device: SDB }));
    await expect(readTrace(join(directory, 'two'))).rejects.toThrow('8,0 (3 requests), 8,16 (3 requests)');
  });

  it('other than the chosen one are counted and passed over', async () => {
    const got = await readTrace('-', { device: '8,16', ...stdinOf(...two) });
    expect(got.lines).toEqual(['0 W 2 4096']);
    expect(got.counts).toMatchObject({ selected: 1, otherDevices: 2, otherActions: 1 });
    expect([...got.counts.devices]).toEqual([
      ['8,0', 2],
      ['8,16', 1],
    ]);
  });

  it('without requests of the wanted action are no reason to choose', async () => {
    const got = await readTrace('-', { action: 'issue', ...stdinOf(...two) });
    expect([...got.counts.devices]).toEqual([['9,127', 1]]);
    expect(got.counts.selected).toBe(1);
  });

  it('that are not there cannot be chosen', async () => {
    await expect(readTrace('-', { device: '8,32', ...stdinOf(...two) })).rejects.toMatchObject({
      code: 'BAD_TRACE',
      message:
        'standard input: holds no requests of device 8,32, but of 8,0 (2 requests), 8,16 (1 request); choose one of these with --device',
    });
  });

  it.each(['sda', '8', '8:0', '4096,0', '8,1048576', '8,-1', ''])('named %j are a usage error', async (device) => {
    await expect(openTrace('-', { action: 'queue', device, ...stdinOf({}) })).rejects.toMatchObject({
      code: 'USAGE',
      exitStatus: 16,
    });
  });

  it('with large numbers are told apart', async () => {
    const device = 4095 * 2 ** 20 + 1048575;
    const got = await readTrace('-', { device: '4095,1048575', ...stdinOf({ device, sector: 6n }, { device: SDA }) });
    expect(got.lines).toEqual(['0 W 6 4096']);
  });
});

it('a trace without events of the wanted action says which it has', async () => {
  const records = [7, 8, 8].map((number) => ({ action: act(number, number === 7 ? issue : complete, write) }));
  await expect(readTrace('-', stdinOf(...records))).rejects.toMatchObject({
    code: 'BAD_TRACE',
    message:
      'standard input: no request in 3 records has the action queue, but 1 of issue and 2 of complete; choose one of these with --action',
  });
});

it('the byte order of one record is enough', async () => {
  const got = await readTrace('-', {
    stdin: Readable.from([record({ sector: 2n ** 33n + 5n, device: SDB, timeNs: 77n }, false)]),
  });
  expect(got.lines).toEqual(['0 W 8589934597 4096']);
  expect([...got.counts.devices.keys()]).toEqual(['8,16']);
});
