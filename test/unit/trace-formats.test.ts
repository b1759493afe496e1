/** The formats beside blktrace's: what each line means, what is malformed, how a format is recognised and unpacked. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { describe, expect, it, vi } from 'vitest';
import { openTrace, scanTrace, TraceFlag, type TraceFormat, type TraceOptions } from '../../src/trace/index.js';
import { describeWithClient } from '../support/clients.js';
import { casesOf } from '../support/long.js';
import { ACTIONS, openFilesIn, readTrace, RECORDINGS, temporaryDirectory, unpackedFixture } from './trace-support.js';

// The recordings are read many times over, beside other programs.
vi.setConfig({ testTimeout: 60_000 });

const directory = temporaryDirectory();

function file(name: string, content: Uint8Array | string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

/** A frame of uncompressed blocks. */
function zstdFrame(content: Uint8Array, blockBytes = 1000): Buffer {
  const parts = [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58])];
  for (let at = 0; at === 0 || at < content.length; at += blockBytes) {
    const block = content.subarray(at, at + blockBytes);
    const header = Buffer.alloc(3);
    header.writeUIntLE((block.length << 3) | (at + blockBytes >= content.length ? 1 : 0), 0, 3);
    parts.push(header, Buffer.from(block));
  }
  return Buffer.concat(parts);
}

function vscsi(
  version: 1 | 2,
  records: { command?: number; ver?: number; bytes?: number; lbn?: number; us?: bigint }[],
) {
  return Buffer.concat(
    records.map(({ command = 0x2a, ver = version << 8, bytes = 4096, lbn = 0, us = 0n }, serial) => {
      const record = Buffer.alloc(version === 1 ? 32 : 40);
      const second = version === 1;
      record.writeUInt16LE(command, second ? 12 : 0);
      record.writeUInt16LE(ver, second ? 14 : 2);
      record.writeUInt32LE(serial, second ? 0 : 4);
      record.writeUInt32LE(bytes, second ? 4 : 8);
      record.writeBigUInt64LE(BigInt(lbn), 16);
      record.writeBigUInt64LE(us, 24);
      return record;
    }),
  );
}

const IOLOG2 =
  'fio version 2 iolog\n/dev/sdb add\n/dev/sdb open\n/dev/sdb read 4096 8192\n/dev/sdb wait 1500 0\n' +
  '/dev/sdb write 0 4096\n/dev/sdb sync 0 0\n/dev/sdb wait 2500 0\n/dev/sdb trim 8192 4096\n/dev/sdb datasync 0 0\n/dev/sdb close\n';
const IOLOG3 =
  'fio version 3 iolog\n21 /tmp/f.dat add\n119 /tmp/f.dat open\n122 /tmp/f.dat write 12288 4096\n' +
  '50120 /tmp/f.dat read 192512 4096\n150147 /tmp/f.dat sync 122880 0\n2032483 /tmp/f.dat close\n';
const MSR =
  '128166372003061629,usr,0,Read,7014609920,24576,41286\n128166372016382155,usr,0,Write,2657792,512,1963\n' +
  '128166372026382245,usr,0,Read,24577,1,1963\n';
const ALIBABA = '419,W,8792731648,16384,1577808000000046\n419,R,8792731648,4096,1577808000000146\n';
const TENCENT = '1538323199,57862440,24,0,1283\n1538323200,57862448,8,1,1283\n1538323200,1,2,1,1283\n';
const CSV =
  'time_ns,op,offset_bytes,length_bytes,flags\n# a comment\n1700000000000000001,write,4096,8192,fua|sync\n' +
  '1700000000000000003,R,0,512,\n1700000000000000003,flush,,,\n'.replace(',,,', ',0,0,') +
  '1700000000000000009,discard,8192,512,meta\n';
const BLKPARSE =
  '  8,0    1        1     0.000000000   135  Q  RA 4457456 + 8 [a b [x]]\n' +
  '  8,0    1        2     0.002758141   135  G  RA 4457456 + 8 [postgres]\n' +
  '  8,0    1        3     0.002837149   135  P   N [postgres]\n' +
  '  8,0    0        4     1.000000001   135  Q FWFS 8 + 16 [postgres]\n' +
  '  8,0    0        5     2.000000000   135  Q FWS [postgres]\n' +
  '  8,0    0        6     2.000000005   135  Q   D 0 + 4194304 (       5) [fstrim]\n' +
  '  8,0    0        6     2.000000005     0  m   N cfq workload slice\n' +
  'CPU0 (sda):\n Reads Queued:           1,        4KiB\t Writes Queued: 1\n\nTotal (sda):\nnothing more\n';

const SAMPLES: [string, string | Buffer, string, string[]][] = [
  [
    'fio iolog 2',
    IOLOG2,
    'fio iolog version 2',
    ['0 R 8 8192', '1500000000 W 0 4096', '1500000000 F 0 0', '2500000000 D 16 4096', '2500000000 F 0 0'],
  ],
  ['fio iolog 3', IOLOG3, 'fio iolog version 3', ['0 W 24 4096', '49998000 R 376 4096', '150025000 F 0 0']],
  ['MSR', MSR, 'MSR Cambridge CSV', ['0 R 13700410 24576', '1332052600 W 5191 512', '2332061600 R 48 512']],
  [
    'MSR with a header',
    `Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime\r\n${MSR.replaceAll('\n', '\r\n')}`,
    'MSR Cambridge CSV',
    ['0 R 13700410 24576', '1332052600 W 5191 512', '2332061600 R 48 512'],
  ],
  ['Alibaba', ALIBABA, 'Alibaba CSV', ['0 W 17173304 16384', '100000 R 17173304 4096']],
  ['Tencent', TENCENT, 'Tencent CSV', ['0 R 57862440 12288', '1000000000 W 57862448 4096', '1000000000 W 1 1024']],
  ['CSV', CSV, 'pcache CSV', ['0 WFS 8 8192', '2 R 0 512', '2 F 0 0', '8 DM 16 512']],
  ['CSV with other columns', 'length_bytes,who,OP,offset_bytes\n512,me,w,1024\n', 'pcache CSV', ['0 W 2 512']],
  [
    'blkparse',
    BLKPARSE,
    'blkparse text',
    ['0 RA 4457456 4096', '1000000001 FWFS 8 8192', '2000000000 FS 0 0', '2000000005 D 0 2147483648'],
  ],
  [
    'vscsi 1',
    vscsi(1, [
      { lbn: 8, us: 10n ** 15n },
      { command: 0x28, us: 10n ** 15n + 7n, bytes: 512 },
      { command: 0x35, us: 10n ** 15n + 8n },
    ]),
    'CloudPhysics vscsi version 1',
    ['0 W 8 4096', '7000 R 0 512', '8000 F 0 0'],
  ],
  [
    'vscsi 2',
    vscsi(2, [{ lbn: 2 ** 33 }, { command: 0x12, us: 4n }, { command: 0x88, us: 5n }]),
    'CloudPhysics vscsi version 2',
    ['0 W 8589934592 4096', '5000 R 0 4096'],
  ],
];

describe.each(SAMPLES)('%s', (name, content, format, lines) => {
  it('is recognised and read: as a file, packed, and as a stream in pieces', async () => {
    const bytes = Buffer.from(content);
    const path = file(name, bytes);
    const got = await readTrace(path);
    expect(got.reader.format).toBe(format);
    expect(got.lines).toEqual(lines);
    expect(got.counts.malformed + got.counts.truncated).toBe(0);
    const { records, notify, otherActions, otherDevices, passthrough, skippedZeroLength, malformed, selected } =
      got.counts;
    expect(notify + otherActions + otherDevices + passthrough + skippedZeroLength + malformed + selected).toBe(records);
    expect(selected).toBe(lines.length);
    const packed: [string, Buffer][] = [
      ['gzip', gzipSync(bytes)],
      ['zstd', zstdFrame(bytes, 100)],
    ];
    for (const [packing, data] of packed) {
      const unpacked = await readTrace(file(`${name}.packed`, data));
      expect(unpacked.reader.format).toBe(`${format}, ${packing}`);
      expect(unpacked.lines).toEqual(lines);
    }
    const pieces = Array.from({ length: Math.ceil(bytes.length / 7) }, (_, i) => bytes.subarray(7 * i, 7 * i + 7));
    expect((await readTrace('-', { stdin: Readable.from(pieces) })).lines).toEqual(lines);
    expect(openFilesIn(directory)).toEqual([]);
  });
});

describe('a malformed record', () => {
  const many = (good: string, count: number): string => good.repeat(count);
  it.each<[TraceFormat, string, string, string]>([
    [
      'msr',
      many(MSR, 2),
      '128166372003061629,usr,0,Rea,7014609920,24576,41286',
      "column 4 (Type): 'Rea' is not an operation",
    ],
    ['msr', many(MSR, 2), '128166372003061629,usr,0,Read,7014609920,-24576,x', "column 6 (Size): '-24576' is negative"],
    ['msr', many(MSR, 2), 'x,usr,0,Read,1,2,3', "column 1 (Timestamp): 'x' is not a number"],
    ['alibaba', many(ALIBABA, 3), '419,W,8792731648,,1577808000000046', 'column 4 (length): it is empty'],
    ['alibaba', many(ALIBABA, 3), '419,W,9007199254740992,512,1577808000000046', 'it ends beyond 8 PiB'],
    ['alibaba', many(ALIBABA, 3), '419,W,9007199254740480,511,1577808000000046', 'it ends beyond 8 PiB'],
    ['alibaba', many(ALIBABA, 3), '419,W,512,512,1577808000000046,1', 'it has more than 5 fields'],
    ['tencent', many(TENCENT, 3), '1538323199,57862440,24,2,1283', "column 4 (IOType): '2' is not an operation"],
    ['tencent', many(TENCENT, 3), '1538323199,57862440,2.5,1,9', "column 3 (Size): '2.5' is not a whole number"],
    ['csv', CSV, '1,write,0', 'it has 3 fields instead of 5'],
    ['csv', CSV, '1,write,0,512,fua|nonsense', "column 5 (flags): 'fua|nonsense' is not a list of flags"],
    ['csv', CSV, '1,wrote,0,512,', "column 2 (op): 'wrote' is not an operation"],
    ['csv', CSV, '1,write,-1,512,', "column 3 (offset_bytes): '-1' is negative"],
    ['iolog', IOLOG3, '5 /tmp/f.dat wait 5 0', 'version 3 knows no wait'],
    ['iolog', IOLOG3, '5 /tmp/f.dat write 5', 'it has no offset and length'],
    ['iolog', IOLOG2, '/dev/sdb wrote 0 4096', "its action is 'wrote'"],
    ['iolog', IOLOG2, '/dev/sdb write 0 4096 1', 'there is something behind its length'],
    [
      'blkparse',
      BLKPARSE.split('CPU0')[0],
      '  8,0    1  1  0.000000000   135  Q  XA 4457456 + 8 [a]',
      'its RWBS is none',
    ],
    [
      'blkparse',
      BLKPARSE.split('CPU0')[0],
      '  8,0    1  1  0.000000000   135  Q  R 4457456 + 8',
      'it is cut after its sectors',
    ],
    [
      'blkparse',
      BLKPARSE.split('CPU0')[0],
      '  8,0    1  1  0.0000   135  Q  R 1 + 8 [a]',
      'it does not begin with device, CPU, sequence, time and process',
    ],
  ])('%s is named with its line, counted and passed over', async (format, before, line, why) => {
    const path = file('malformed', `${before}${line}\n${before}`);
    const want = await readTrace(file('sound', before + before));
    for (const options of [{}, { format }]) {
      const got = await readTrace(path, options);
      expect(got.counts).toMatchObject({ malformed: 1, selected: want.counts.selected });
      const number = before.split('\n').length;
      expect(got.reader.malformed).toEqual([{ where: `line ${number}`, why }]);
      expect(got.warnings).toContain(`${path}: line ${number}: ${why}; passed over`);
    }
  });

  it('of vscsi is named with its byte', async () => {
    const path = file('bad-vscsi', vscsi(2, [...Array.from({ length: 20 }, () => ({})), { ver: 0x100 }, {}]));
    const got = await readTrace(path);
    expect(got.reader.malformed).toEqual([{ where: 'byte 800', why: 'its version is 1 instead of 2' }]);
    expect(got.counts).toMatchObject({ selected: 21, malformed: 1 });
  });

  it('is tolerated a hundred times, or as often as is allowed, and then is an error', async () => {
    const bad = (count: number): string => `${ALIBABA.repeat(200)}${'1,W,x,1,1\n'.repeat(count)}`;
    const got = await readTrace(file('hundred', bad(100)));
    expect(got.counts.malformed).toBe(100);
    expect(got.warnings).toHaveLength(6);
    expect(got.warnings[5]).toContain('100 malformed records in all');
    const path = file('hundred-one', bad(101));
    await expect(readTrace(path)).rejects.toMatchObject({
      code: 'BAD_TRACE',
      message: `${path}: 101 malformed records of 501, at line 401 for instance: column 3 (offset): 'x' is not a number; if it is another format say so with --format, or allow more with --max-malformed`,
    });
    expect((await readTrace(path, { malformedLimit: 101 })).counts.malformed).toBe(101);
    await expect(readTrace(file('one', bad(1)), { malformedLimit: 0 })).rejects.toThrow('1 malformed record of 401,');
    expect(openFilesIn(directory)).toEqual([]);
  });

  it('longer than anything sensible is passed over whole', async () => {
    const path = file('long', `${ALIBABA}${'9'.repeat(600_000)}\n${ALIBABA}`);
    const got = await readTrace(path);
    expect(got.lines).toHaveLength(4);
    expect(got.reader.malformed).toEqual([{ where: 'line 3', why: 'the line is longer than 262144 bytes' }]);
  });
});

describe('a trace that ends early', () => {
  it('in the middle of a line: that line is counted as cut when it makes no sense', async () => {
    const path = file('cut', `${ALIBABA}419,R,87`);
    const got = await readTrace(path);
    expect(got.counts).toMatchObject({ selected: 2, truncated: 1, malformed: 0, records: 2 });
    expect(got.warnings).toEqual([
      `${path}: cut short: line 3, the last, has no end (it has 3 fields instead of 5); the lines before it are used`,
    ]);
  });

  it('without the last newline: the line is used, and that is said', async () => {
    const path = file('no-newline', ALIBABA.trimEnd());
    const got = await readTrace(path);
    expect(got.counts).toMatchObject({ selected: 2, truncated: 0, records: 2 });
    expect(got.warnings).toEqual([
      `${path}: line 2, the last, does not end in a newline; it is used, but may have been cut`,
    ]);
  });

  it.each([
    ['gzip', gzipSync(Buffer.from(ALIBABA.repeat(5000)), { level: 0 })],
    ['zstd', zstdFrame(Buffer.from(ALIBABA.repeat(5000)))],
  ])('within its %s data: every whole line is used, the rest is not', async (packing, packed) => {
    const path = file('cut-packed', packed.subarray(0, packed.length / 2 + 17));
    const got = await readTrace(path);
    expect(got.counts.selected).toBeGreaterThan(4000);
    expect(got.counts).toMatchObject({ truncated: 1, malformed: 0 });
    expect(got.warnings[0]).toMatch(new RegExp(`cut short: its ${packing} data end early; the \\d+ whole lines`));
  });

  it('within a record of vscsi', async () => {
    const got = await readTrace(file('cut-vscsi', vscsi(1, [{}, {}]).subarray(0, 50)));
    expect(got.counts).toMatchObject({ selected: 1, truncated: 1 });
    expect(got.warnings[0]).toContain('cut short: its last record has only 18 bytes; the 1 whole records');
  });

  it('with damaged zstd data is an error', async () => {
    const packed = zstdFrame(Buffer.from(ALIBABA.repeat(500)));
    packed[6 + 1003] = 0xff;
    await expect(readTrace(file('damaged.zst', packed))).rejects.toThrow('damaged zstd data (');
    expect(openFilesIn(directory)).toEqual([]);
  });
});

describe('devices', () => {
  const two: [string, string, string, string][] = [
    ['MSR', MSR + MSR.replaceAll('usr,0', 'web,2'), 'usr_0', 'web_2'],
    ['Alibaba', ALIBABA + ALIBABA.replaceAll('419,', '7,'), '419', '7'],
    ['Tencent', TENCENT + TENCENT.replaceAll(',1283', ',9'), '1283', '9'],
    ['iolog', IOLOG2 + IOLOG2.split('\n').slice(1).join('\n').replaceAll('sdb', 'sdc'), '/dev/sdb', '/dev/sdc'],
    ['CSV', 'op,offset_bytes,length_bytes,device\nr,0,512,a\nw,0,512,b b\n', 'a', 'b b'],
    ['blkparse', BLKPARSE.split('CPU0')[0] + BLKPARSE.replaceAll('8,0', '8,16'), '8,0', '8,16'],
  ];
  it.each(two)('of %s are told apart and chosen by name', async (_, content, one, other) => {
    const path = file('two', content);
    await expect(readTrace(path)).rejects.toThrow(`holds requests of several devices: ${one} (`);
    const first = await readTrace(path, { device: one });
    const second = await readTrace(path, { device: other });
    expect([...second.counts.devices.keys()]).toEqual([one, other]);
    expect(first.counts.selected).toBe(second.counts.otherDevices);
    const all = await readTrace(path, { allDevices: true });
    expect(all.counts.selected).toBe(first.counts.selected + second.counts.selected);
    expect(all.reader.deviceNames).toEqual([one, other]);
    await expect(readTrace(path, { device: '77,7' })).rejects.toThrow('holds no requests of device 77,7, but of');
  });

  it('give the requests of the chosen one', async () => {
    const path = file('chosen', 'op,offset_bytes,length_bytes,device\nr,0,512,a\nw,512,512,b\nr,1024,512,a\n');
    expect((await readTrace(path, { device: 'a' })).lines).toEqual(['0 R 0 512', '0 R 2 512']);
    expect((await readTrace(path, { device: 'b' })).lines).toEqual(['0 W 1 512']);
  });

  it('that are many are not all listed', async () => {
    const lines = Array.from({ length: 20 }, (_, i) => `${i},W,0,512,${i}\n`.repeat(i + 1)).join('');
    await expect(readTrace(file('twenty', lines))).rejects.toThrow(
      ': 19 (20 requests), 18 (19 requests), 17 (18 requests), 16 (17 requests), 15 (16 requests), 14 (15 requests), 13 (14 requests), 12 (13 requests), 12 more; choose',
    );
  });

  it('of each request are in the batches', async () => {
    const reader = await openTrace(file('each', two[1][1]), { action: 'queue', allDevices: true });
    for await (const batch of reader.batches()) {
      expect([...batch.device.subarray(0, batch.count)].map((i) => reader.deviceNames[i])).toEqual([
        '419',
        '7',
        '419',
        '7',
      ]);
    }
  });
});

it('a flush does not also ask for one before itself', async () => {
  const reader = await openTrace(file('flush', BLKPARSE), { action: 'queue' });
  const flags: number[] = [];
  for await (const batch of reader.batches()) flags.push(...batch.flags.subarray(0, batch.count));
  const { ahead, fua, preflush, sync } = TraceFlag;
  expect(flags).toEqual([ahead, preflush | fua | sync, sync, 0]);
});

it('a range is widened to whole sectors and counted', async () => {
  const path = file('unaligned', 'op,offset_bytes,length_bytes\nw,511,2\nw,512,512\nr,1000,24\nw,0,1\n');
  const got = await readTrace(path);
  expect(got.lines).toEqual(['0 W 0 1024', '0 W 1 512', '0 R 1 512', '0 W 0 512']);
  expect(got.counts).toMatchObject({ widened: 3, selected: 4 });
  expect(got.warnings).toEqual([`${path}: 3 requests not aligned to sectors of 512 bytes; widened to whole sectors`]);
  expect(await scanTrace(path, { action: 'queue' })).toMatchObject({ endBytes: 1024, uniqueBytes: 4096 });
});

describe('recognition', () => {
  const refused = async (content: string | Buffer, options: Partial<TraceOptions> = {}): Promise<string> =>
    readTrace(file('refused', content), options).then(
      () => 'read',
      (error: Error) => error.message,
    );

  it('does not mistake any five numbers for Tencent', async () => {
    const numbers = '1,57862440,24,0,1283\n2,57862448,8,1,1283\n';
    expect(await refused(numbers)).toContain(
      'found a CSV of five numbers a line, whose times do not look like seconds since 1970; ' +
        "if it is Tencent's say so with --format tencent",
    );
    expect((await readTrace(file('said', numbers), { format: 'tencent' })).lines).toHaveLength(2);
  });

  it('refuses other versions of an iolog', async () => {
    expect(await refused('fio version 1 iolog\nx\n')).toContain(
      'found a fio iolog of version 1; only versions 2 and 3',
    );
    expect(await refused(ALIBABA, { format: 'iolog' })).toContain('an iolog begins with the line');
  });

  it('of a CSV needs its header', async () => {
    expect(await refused('write,0,512\n', { format: 'csv' })).toMatch(
      /refused: must begin with a line that names its columns, at least op, offset_bytes, length_bytes; found "write,0,512"/,
    );
  });

  it('bears with malformed lines at the beginning, and a byte order mark', async () => {
    const got = await readTrace(file('late', `\ufeff${ALIBABA}garbage\n${ALIBABA.repeat(3)}`));
    expect([got.reader.format, got.lines.length, got.counts.malformed]).toEqual(['Alibaba CSV', 8, 1]);
  });

  it('may come again where tables were joined, but not within a line that has numbers', async () => {
    const header = 'op,offset_bytes,length_bytes';
    const got = await readTrace(
      file('joined.csv', `${header}\nwrite,0,512\n${header}\nread,0,512\nwrite,0,${header}\n`),
    );
    expect([got.lines.length, got.counts.malformed]).toEqual([2, 1]);
  });

  it('holds for each file of a recording alone', async () => {
    file('mixed.blktrace.0', unpackedFixture('ext4-sqlite-git', 0));
    file('mixed.blktrace.1', ALIBABA);
    await expect(readTrace(join(directory, 'mixed'))).rejects.toThrow(
      'mixed.blktrace.1: is alibaba, not a blktrace recording; give it by its own name',
    );
    expect(openFilesIn(directory)).toEqual([]);
  });

  it('passes over zstd frames that hold nothing, and takes several', async () => {
    const skippable = Buffer.from('502a4d180400000061626364', 'hex');
    const frames = [skippable, zstdFrame(Buffer.from(ALIBABA)), skippable, zstdFrame(Buffer.from(ALIBABA))];
    expect((await readTrace(file('frames', Buffer.concat(frames)))).lines).toHaveLength(4);
  });
});

it('unknown columns of a CSV are named', async () => {
  const path = file('columns', 'length_bytes,who,op,offset_bytes, why\n512,me,w,1024,so\n');
  expect((await readTrace(path)).warnings).toEqual([
    `${path}: columns that mean nothing here are passed over: who, why`,
  ]);
});

describeWithClient('text of the real blkparse', 'blkparse', (blkparse) => {
  describe.each(RECORDINGS)('%s', (name) => {
    it.each(ACTIONS)('gives the same requests and tally as the recording: %s', async (action) => {
      for (const cpu of [0, 1]) file(`${name}.blktrace.${cpu}`, unpackedFixture(name, cpu));
      const want = await readTrace(join(directory, name), { action });
      expect(want.lines.length).toBeGreaterThan(400);
      for (const flags of [[], ['-q'], ['-t']]) {
        const text = execFileSync(blkparse, [...flags, '-i', name], {
          cwd: directory,
          maxBuffer: 1 << 28,
          stdio: ['ignore', 'pipe', 'ignore'],
        });
        const got = await readTrace(file(`${name}.txt`, text), { action });
        expect(got.lines).toEqual(want.lines);
        expect(got.warnings).toEqual([]);
        const { skippedZeroLength, selected, flushes, failed, fuas } = want.counts;
        expect(got.counts).toMatchObject({ malformed: 0, skippedZeroLength, selected, flushes, failed, fuas });
        expect([...got.counts.devices]).toEqual([...want.counts.devices]);
      }
    });
  });
});

describeWithClient('an iolog of the real fio', 'fio', (fio) => {
  it('is read: what fio says it did', () => {
    const log = join(directory, 'fio.iolog');
    const said = execFileSync(
      fio,
      [
        '--name=w',
        `--filename=${join(directory, 'fio.dat')}`,
        '--size=256k',
        '--bs=4k',
        '--rw=randrw',
        '--fsync=4',
      ].concat([`--write_iolog=${log}`, '--output-format=json', '--randseed=7', '--thinktime=1ms']),
      { encoding: 'utf8' },
    );
    const job = (JSON.parse(said) as { jobs: { read: { total_ios: number }; write: { total_ios: number } }[] }).jobs[0];
    return readTrace(log).then((got) => {
      expect(got.counts).toMatchObject({ reads: job.read.total_ios, writes: job.write.total_ios, malformed: 0 });
      expect(got.counts.flushes).toBeGreaterThan(0);
      // 64 requests with a millisecond between: microseconds, not milliseconds or nanoseconds.
      const lastNs = Number(got.lines.at(-1)?.split(' ')[0]);
      expect(lastNs).toBeGreaterThan(50e6);
      expect(lastNs).toBeLessThan(50e9);
    });
  });
});

describeWithClient('files of the real zstd', 'zstd', (zstd) => {
  it.each(casesOf(['-1', '--long=27', '-19'], 2))('are read like the plain file when packed with %s', async (level) => {
    const plain = file('plain', ALIBABA.repeat(30_000));
    const packed = join(directory, `packed${level}`);
    execFileSync(zstd, ['-q', '-f', level, plain, '-o', packed]);
    expect(readFileSync(packed).length).toBeLessThan(100_000);
    expect((await readTrace(packed)).counts.selected).toBe(60_000);
    const base = join(directory, `fixture${level}`);
    for (const cpu of [0, 1]) {
      const recorded = file(`recorded.${cpu}`, unpackedFixture('pgbench', cpu));
      execFileSync(zstd, ['-q', '-f', level, recorded, '-o', `${base}.blktrace.${cpu}.zst`]);
    }
    const got = await readTrace(base);
    expect(got.reader.format).toBe('blktrace recording of 2 CPUs, little-endian, zstd');
    expect(got.counts).toMatchObject({ records: 85_747, reads: 1624, writes: 10_216, flushes: 3574 });
  });
});
