/** What is no recording, or a damaged one; which files a name means; and that nothing stays open. */
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { constants, gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { GunzipSource, openFileSource, StreamSource } from '../../src/trace/bytes.js';
import { isReadableOnce, openTrace, scanTrace, spoolStream } from '../../src/trace/index.js';
import {
  act,
  Bit,
  FIXTURES,
  openFilesIn,
  readTrace,
  record,
  recording,
  temporaryDirectory,
  unpackedFixture,
} from './trace-support.js';
import type { RecordFields } from './trace-support.js';

const directory = temporaryDirectory();
const containing = (text: string): string => expect.stringContaining(text) as string;
const numbered = (count: number): RecordFields[] =>
  Array.from({ length: count }, (_, i) => ({ timeNs: BigInt(i), sector: BigInt(i) }));

function file(name: string, content: Uint8Array | string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

describe('a foreign file', () => {
  const accepted =
    'docs/traces.md lists the formats; any other table can be read with --columns, and --format says what it is';
  it.each<[string, Uint8Array | string, string]>([
    ['text', 'Dear diary,\ntoday I recorded nothing\n', 'found text: "Dear diary,"'],
    ['a table', 'a,b,c\n1,2,3\n4,5,6\n', 'found text: "a,b,c"'],
    [
      'records of another version',
      record({ magic: 0x65617409 }),
      'found blktrace records of version 9, only versions 7 and 8 are read; record with blktrace 1.2 or newer',
    ],
    [
      'records of another version, other byte order',
      record({ magic: 0x65617409 }, false),
      'found blktrace records of version 9',
    ],
    ['zeros', Buffer.alloc(100), 'found zeros'],
    ['anything', Buffer.from('00ff1234567890abcdef', 'hex'), 'found bytes 00ff1234567890ab'],
    ['a single byte', Buffer.from([7]), 'found bytes 07'],
  ])('of %s is named, with what is accepted', async (name, content, found) => {
    const path = file(`foreign ${name}`, content);
    await expect(openTrace(path, { action: 'queue' })).rejects.toMatchObject({ code: 'BAD_TRACE', exitStatus: 8 });
    const error: Error = await openTrace(path, { action: 'queue' }).then(
      () => new Error('opened'),
      (reason: Error) => reason,
    );
    expect(error.message).toContain(`${path}: not a known trace, ${found}`);
    expect(error.message).toMatch(new RegExp(`${accepted}$`));
    expect(error.message).not.toContain('\n');
    const packed = file(`foreign ${name}.gz`, gzipSync(content));
    await expect(openTrace(packed, { action: 'queue' })).rejects.toThrow(
      `${packed}: not a known trace (in its gzip data), ${found}`,
    );
    expect(openFilesIn(directory)).toEqual([]);
  });

  it.each([
    ['empty', ''],
    ['empty.gz', gzipSync('')],
  ])('without bytes is said to be: %s', async (name, content) => {
    const path = file(name, content);
    await expect(openTrace(path, { action: 'queue' })).rejects.toMatchObject({
      code: 'BAD_TRACE',
      message: `${path}: is empty, a trace has at least one record; record it again`,
    });
    expect(openFilesIn(directory)).toEqual([]);
  });

  it('among the files of the other CPUs is named, and closes them', async () => {
    for (const cpu of [0, 1, 2]) file(`one-bad.blktrace.${cpu}`, cpu === 2 ? 'oh no' : recording({}));
    await expect(openTrace(join(directory, 'one-bad'), { action: 'queue' })).rejects.toThrow(
      'one-bad.blktrace.2: not a known trace',
    );
    expect(openFilesIn(directory)).toEqual([]);
  });
});

describe('damage', () => {
  it.each([[1], [47], [48], [55]])('%i bytes of the last record: the records before are used', async (bytes) => {
    const cut = Buffer.concat([recording(...numbered(3)), record({ pdu: 8 }).subarray(0, bytes)]);
    for (const path of [file('cut', cut), file('cut.gz', gzipSync(cut))]) {
      const got = await readTrace(path);
      expect(got.lines).toEqual(['0 W 0 4096', '1 W 1 4096', '2 W 2 4096']);
      expect(got.counts).toMatchObject({ truncated: 1, records: 3 });
      expect(got.warnings).toEqual([
        `${path}: cut short: its last record has only ${bytes} bytes; the 3 whole records before that are used`,
      ]);
    }
  });

  it('of gzip data that end early: every record that is still there is used', async () => {
    const packed = readFileSync(join(FIXTURES, 'pgbench.blktrace.0.gz'));
    for (const part of [0.1, 0.5, 0.9]) {
      const rest = packed.subarray(0, Math.floor(packed.length * part));
      const path = file('early.gz', rest);
      const got = await readTrace(path);
      const unpacked = file('early', gunzipSync(rest, { finishFlush: constants.Z_SYNC_FLUSH }));
      expect(got.lines).toEqual((await readTrace(unpacked)).lines);
      expect(got.counts.truncated).toBe(1);
      expect(got.warnings).toEqual([
        `${path}: cut short: its gzip data end early; the ${got.counts.records} whole records before that are used`,
      ]);
    }
  });

  it('of gzip data inside is an error', async () => {
    const packed = Buffer.from(readFileSync(join(FIXTURES, 'ext4-sqlite-git.blktrace.0.gz')));
    packed[packed.length - 6] ^= 1;
    const path = file('bad.gz', packed);
    await expect(readTrace(path)).rejects.toMatchObject({
      code: 'BAD_TRACE',
      message: `${path}: damaged gzip data (incorrect data check); copy or compress it again`,
    });
    expect(openFilesIn(directory)).toEqual([]);
  });

  it('is neither padding behind gzip data nor several gzip members', async () => {
    const halves = [recording(...numbered(2)), recording({ timeNs: 9n, sector: 9n })].map((half) => gzipSync(half));
    const path = file('members.gz', Buffer.concat([...halves, Buffer.alloc(200_000)]));
    expect((await readTrace(path)).lines).toEqual(['0 W 0 4096', '1 W 1 4096', '9 W 9 4096']);
    await expect(readTrace(file('behind.gz', Buffer.concat([...halves, Buffer.from('behind')])))).rejects.toThrow(
      'damaged gzip data (incorrect header check)',
    );
  });

  it('in mid-file is an error that says where', async () => {
    const bytes = Buffer.concat([
      recording(...numbered(2), { pdu: 5 }),
      Buffer.from('garbage'.repeat(20)),
      recording({}),
    ]);
    const path = file('garbage', bytes);
    const message =
      'damaged at byte 149: record 3 starts with 62726167 instead of 65617407; record it again, or cut it off there';
    await expect(readTrace(path)).rejects.toMatchObject({ code: 'BAD_TRACE', message: `${path}: ${message}` });
    await expect(readTrace(file('garbage.gz', gzipSync(bytes)))).rejects.toThrow(
      'byte 149 of the unpacked data: record 3',
    );
    expect(openFilesIn(directory)).toEqual([]);
  });

  it('far into a file is found at the right byte', async () => {
    const bytes = Buffer.from(unpackedFixture('pgbench', 0));
    let at = 0;
    for (let i = 0; i < 40_000; i++) at += 48 + bytes.readUInt16LE(at + 46);
    bytes[at + 1] ^= 0xff;
    await expect(readTrace(file('far', bytes))).rejects.toThrow(`damaged at byte ${at}: record 40000 starts with`);
  });
});

describe('the name', () => {
  it('means every CPU of the recording and nothing else', async () => {
    for (const cpu of ['0', '2', '10', '9.gz']) {
      const bytes = recording({ timeNs: BigInt(parseInt(cpu, 10)), sector: BigInt(parseInt(cpu, 10)) });
      file(`rec.blktrace.${cpu}`, cpu.endsWith('.gz') ? gzipSync(bytes) : bytes);
    }
    for (const other of [
      'rec.blktrace.x',
      'rec.blktrace.1.7z',
      'rec.blktrace.',
      'rec2.blktrace.0',
      'rec.0',
      'rec.blktrace.3~',
    ])
      file(other, 'other');
    file('rec.blktrace.5', '');
    for (const name of ['rec', 'rec.blktrace']) {
      const got = await readTrace(join(directory, name));
      expect(got.reader.files).toEqual(
        ['0', '2', '5', '9.gz', '10'].map((cpu) => join(directory, `rec.blktrace.${cpu}`)),
      );
      expect(got.lines).toEqual(['0 W 0 4096', '2 W 2 4096', '9 W 9 4096', '10 W 10 4096']);
    }
  });

  it('prefers the unpacked file of a CPU to the packed one', async () => {
    file('both.blktrace.0', recording({ sector: 1n }));
    file('both.blktrace.0.gz', gzipSync(recording({ sector: 2n })));
    const got = await readTrace(join(directory, 'both'));
    expect(got.lines).toEqual(['0 W 1 4096']);
    expect(got.warnings).toEqual([
      `${join(directory, 'both.blktrace.0.gz')}: passed over, since ${join(directory, 'both.blktrace.0')} is there too`,
    ]);
  });

  it('means the recording beside a directory of that name', async () => {
    mkdirSync(join(directory, 'run'));
    file('run.blktrace.0', recording({ sector: 4n }));
    expect((await readTrace(join(directory, 'run'))).lines).toEqual(['0 W 4 4096']);
  });

  it('of files that are all empty is an error', async () => {
    for (const cpu of [0, 1]) file(`idle.blktrace.${cpu}`, '');
    await expect(readTrace(join(directory, 'idle'))).rejects.toMatchObject({
      code: 'BAD_TRACE',
      message: containing('idle: all 2 files are empty'),
    });
  });

  it.each([
    ['nothing', 'missing', 'NOT_FOUND', 'missing: no such file, and no missing.blktrace.0 or the like there'],
    ['nothing in a directory that is not there', 'no/where', 'NOT_FOUND', 'where: no such file'],
    ['a directory', '.', 'NOT_A_DEVICE', 'is a directory'],
    ['something below a file', 'both.blktrace.0/x', 'IO', 'ENOTDIR while looking for the trace'],
  ])('of %s is one clear line', async (_, name, code, message) => {
    file('both.blktrace.0', recording({}));
    await expect(openTrace(join(directory, name), { action: 'queue' })).rejects.toMatchObject({
      code,
      message: containing(message),
    });
  });

  it('of a file whose reading fails is one clear line', async () => {
    // Its first page is never mapped, so the read, not the opening, fails; for every user.
    await expect(openTrace('/proc/self/mem', { action: 'queue' })).rejects.toMatchObject({
      code: 'IO',
      message: containing('/proc/self/mem: EIO while reading the trace'),
    });
    expect(openFilesIn('/proc/self/mem')).toEqual([]);
  });

  it('of an unreadable file or directory is one clear line', async () => {
    const path = file('secret', recording({}));
    mkdirSync(join(directory, 'closed'));
    for (const [name, mode] of [
      ['.', 0o755],
      ['secret', 0],
      ['closed', 0],
    ] as const)
      chmodSync(join(directory, name), mode);
    // Root reads everything; so for this long, be nobody.
    const root = process.geteuid?.() === 0;
    if (root) process.seteuid?.(65534);
    try {
      for (const [trace, named] of [
        [path, path],
        [join(directory, 'closed', 'x'), join(directory, 'closed', 'x')],
      ]) {
        await expect(openTrace(trace, { action: 'queue' })).rejects.toMatchObject({
          code: 'NO_ACCESS',
          message: containing(`${named}: permission denied while`),
        });
      }
    } finally {
      if (root) process.seteuid?.(0);
    }
  });
});

describe('what was opened is closed', () => {
  const base = join(FIXTURES, 'pgbench');
  const open = () => openTrace(base, { action: 'queue' });

  it('at the end', async () => {
    await readTrace(base);
    expect(openFilesIn(FIXTURES)).toEqual([]);
  });

  it('when the loop is left', async () => {
    for await (const batch of (await open()).batches()) {
      expect(batch.count).toBe(4096);
      expect(openFilesIn(FIXTURES).length).toBe(2);
      break;
    }
    expect(openFilesIn(FIXTURES)).toEqual([]);
  });

  it('when the consumer throws', async () => {
    const reader = await open();
    const consume = async (): Promise<void> => {
      for await (const batch of reader.batches()) throw new Error(`seen ${batch.count}`);
    };
    await expect(consume()).rejects.toThrow('seen 4096');
    expect(openFilesIn(FIXTURES)).toEqual([]);
  });

  it('when nobody iterates but closes, twice', async () => {
    const reader = await open();
    expect(openFilesIn(FIXTURES).length).toBe(2);
    await reader.close();
    await reader.close();
    expect(openFilesIn(FIXTURES)).toEqual([]);
  });

  it('when the devices are ambiguous', async () => {
    for (const cpu of [0, 1]) file(`amb.blktrace.${cpu}`, recording({ device: cpu + 1 }));
    await expect(readTrace(join(directory, 'amb'))).rejects.toThrow('several devices');
    expect(openFilesIn(directory)).toEqual([]);
  });

  it.each([
    ['plain', (bytes: Buffer) => bytes],
    ['packed', (bytes: Buffer) => gzipSync(bytes)],
  ])('a stream that stalls, when the loop is left: %s', async (_, make) => {
    const stdin = new PassThrough();
    // More than are held back to put the pieces of several CPUs in order, at random sectors, so that gzip hands out what
    // it has before it has everything.
    const records = Array.from({ length: 2 ** 18 + 20_000 }, (_, i) =>
      recording({ timeNs: BigInt(i), sector: BigInt(Math.imul(i, 2654435761) >>> 0) }),
    );
    stdin.write(make(Buffer.concat(records)));
    const reader = await openTrace('-', { action: 'queue', stdin });
    for await (const batch of reader.batches()) {
      expect(batch.count).toBe(4096);
      break;
    }
    expect(stdin.destroyed).toBe(true);
  });

  it('a stream that fails', async () => {
    const stdin = new PassThrough();
    stdin.write(recording(...numbered(10)));
    const reading = readTrace('-', { stdin });
    setTimeout(() => stdin.destroy(new Error('the pipe broke')), 20);
    await expect(reading).rejects.toMatchObject({
      code: 'IO',
      message: containing('standard input: error while reading the trace: the pipe broke'),
    });
    expect(stdin.destroyed).toBe(true);
  });
});

describe('spooling', () => {
  it('copies a stream as it is, for its owner only', async () => {
    const packed = readFileSync(join(FIXTURES, 'pgbench.blktrace.0.gz'));
    const path = join(directory, 'spool');
    const stdin = Readable.from([packed.subarray(0, 5), packed.subarray(5)]);
    expect(await spoolStream('standard input', stdin, path)).toBe(packed.length);
    expect(readFileSync(path).equals(packed)).toBe(true);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const first = await scanTrace(path, { action: 'queue' });
    expect((await readTrace(path)).counts).toEqual(first.counts);
    expect(openFilesIn(directory)).toEqual([]);
  });

  it('has the failure of a stream that failed before it was read', async () => {
    const stdin = new PassThrough();
    const source = new StreamSource('standard input', stdin);
    stdin.destroy(new Error('gone'));
    await new Promise((resolve) => setTimeout(resolve, 10));
    await expect(source.read(new Uint8Array(8), 0, 8)).rejects.toMatchObject({ code: 'IO' });
  });

  it('leaves nothing when the stream fails', async () => {
    const stdin = new PassThrough();
    stdin.write('begun');
    setTimeout(() => stdin.destroy(new Error('gone')), 20);
    const path = join(directory, 'spool-failed');
    await expect(spoolStream('standard input', stdin, path)).rejects.toMatchObject({ code: 'IO' });
    expect(existsSync(path)).toBe(false);
    expect(openFilesIn(directory)).toEqual([]);
  });

  it('neither writes over a file nor leaves the stream open then', async () => {
    const path = file('mine', 'precious');
    const stdin = Readable.from(['x'].map((text) => Buffer.from(text)));
    await expect(spoolStream('standard input', stdin, path)).rejects.toMatchObject({
      code: 'IO',
      message: containing('EEXIST while making a copy of the trace'),
    });
    expect(readFileSync(path, 'utf8')).toBe('precious');
    expect(stdin.destroyed).toBe(true);
  });

  it('is needed for streams only', async () => {
    expect(await isReadableOnce('-')).toBe(true);
    expect(await isReadableOnce('/dev/null')).toBe(true);
    expect(await isReadableOnce(file('regular', 'x'))).toBe(false);
    expect(await isReadableOnce(join(directory, 'missing'))).toBe(false);
  });
});

describe('gunzip as a source of bytes', () => {
  it('gives no more than it is asked for, and loses nothing', async () => {
    const want = unpackedFixture('ext4-sqlite-git', 0);
    const source = new GunzipSource(
      await openFileSource(join(FIXTURES, 'ext4-sqlite-git.blktrace.0.gz')),
      new Uint8Array(0),
    );
    const got = Buffer.alloc(want.length + 1000, 0xee);
    let end = 0;
    for (let bytes = 1; bytes > 0; end += bytes)
      bytes = await source.read(got, end, Math.min(777, want.length + 777 - end));
    expect(end).toBe(want.length);
    expect(got.subarray(0, end).equals(want)).toBe(true);
    expect(got.subarray(end).every((byte) => byte === 0xee)).toBe(true);
    await source.close();
    expect(openFilesIn(FIXTURES)).toEqual([]);
  });
});

describe('a footprint', () => {
  const { read, write, discard, flush, queue } = Bit;
  it('counts blocks once, and only of reads and writes', async () => {
    const stdin = Readable.from([
      recording(
        { sector: 7n, bytes: 1024 },
        { sector: 8n, bytes: 4096, timeNs: 5n },
        { sector: 2n ** 32n, bytes: 8192, timeNs: 10n, action: act(1, queue, read) },
        { sector: 2n ** 40n, bytes: 4096, timeNs: 20n, action: act(1, queue, write, discard) },
        { bytes: 0, timeNs: 30n, action: act(1, queue, write, flush) },
      ),
    ]);
    expect(await scanTrace('-', { action: 'queue', stdin })).toMatchObject({
      endBytes: 2 ** 41 + 8192,
      uniqueBytes: 4 * 4096,
      durationNs: 30,
    });
  });

  it('of blocks spread over more than 4096 GiB does not say how many they are', async () => {
    const spread = (count: number): { stdin: Readable } => ({
      stdin: Readable.from([
        recording(...Array.from({ length: count }, (_, i) => ({ sector: BigInt(i) * 2n ** 21n }))),
      ]),
    });
    expect(await scanTrace('-', { action: 'queue', ...spread(4096) })).toMatchObject({ uniqueBytes: 4096 * 4096 });
    expect(await scanTrace('-', { action: 'queue', ...spread(4097) })).toMatchObject({
      uniqueBytes: undefined,
      endBytes: 4096 * 2 ** 30 + 4096,
    });
  });
});
