/** Traces written in other formats: what comes back of them, what is said to be lost, and that other programs take them. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { convertTrace, openTrace, TraceOp, WRITE_FORMATS, type WriteFormat } from '../../src/trace/index.js';
import { describeWithClient } from '../support/clients.js';
import { FIXTURES, readTrace, RECORDINGS, temporaryDirectory } from './trace-support.js';

const directory = temporaryDirectory();

async function convert(
  trace: string,
  to: WriteFormat,
  options: { device?: string; text?: string; gzip?: boolean } = {},
) {
  const pieces: Buffer[] = [];
  const { text, gzip = false, ...rest } = options;
  const result = await convertTrace({
    trace,
    options: { action: 'queue', ...rest, ...(text === undefined ? {} : { stdin: Readable.from([Buffer.from(text)]) }) },
    to,
    gzip,
    sink: (bytes) => {
      pieces.push(Buffer.from(bytes));
      return Promise.resolve();
    },
    progress: () => undefined,
    turn: () => Promise.resolve(),
  });
  const bytes = Buffer.concat(pieces);
  expect(result.bytes).toBe(bytes.length);
  const path = join(directory, `converted.${to}`);
  writeFileSync(path, bytes);
  return { result, bytes, path };
}

/** What of a request each format holds; times in units of so many ns. */
const HOLDS: Record<WriteFormat, { flags: boolean; ops: number[]; unitNs: number; format: string; allReads?: true }> = {
  'csv': { flags: true, ops: [0, 1, 2, 3], unitNs: 1, format: 'pcache CSV' },
  'blkparse': { flags: true, ops: [0, 1, 2, 3], unitNs: 1, format: 'blkparse text' },
  'iolog2': { flags: false, ops: [0, 1, 2, 3], unitNs: 1e6, format: 'fio iolog version 2' },
  'iolog3': { flags: false, ops: [0, 1, 2, 3], unitNs: 1000, format: 'fio iolog version 3' },
  'msr': { flags: false, ops: [0, 1], unitNs: 100, format: 'MSR Cambridge CSV' },
  'alibaba': { flags: false, ops: [0, 1], unitNs: 1000, format: 'Alibaba CSV' },
  'tencent': { flags: false, ops: [0, 1], unitNs: 1e9, format: 'Tencent CSV' },
  'vscsi1': { flags: false, ops: [0, 1, 2], unitNs: 1000, format: 'CloudPhysics vscsi version 1' },
  'vscsi2': { flags: false, ops: [0, 1, 2], unitNs: 1000, format: 'CloudPhysics vscsi version 2' },
  'oracle-general': { flags: false, ops: [0, 1], unitNs: 1e9, format: 'libCacheSim oracleGeneral', allReads: true },
};

interface Request {
  timeNs: number;
  op: number;
  flags: number;
  offset: number;
  length: number;
}

async function requestsOf(path: string): Promise<Request[]> {
  const found: Request[] = [];
  const reader = await openTrace(path, { action: 'queue' });
  for await (const batch of reader.batches()) {
    for (let i = 0; i < batch.count; i++) {
      const [timeNs, op, flags] = [batch.timeNs[i], batch.op[i], batch.flags[i]];
      found.push({ timeNs, op, flags, offset: batch.offsetBytes[i], length: batch.lengthBytes[i] });
    }
  }
  expect(reader.warnings).toEqual([]);
  return found;
}

describe.each(RECORDINGS)('%s', (name) => {
  const recorded = join(FIXTURES, name);

  it.each(WRITE_FORMATS)('as %s and back holds what that can hold, in the same order', async (to) => {
    const { flags, ops, unitNs, format, allReads } = HOLDS[to];
    const all = await requestsOf(recorded);
    const held = all.filter(({ op }) => ops.includes(op));
    const first = Math.floor(held[0].timeNs / unitNs);
    const want = held.map((request) => ({
      ...request,
      timeNs: (Math.floor(request.timeNs / unitNs) - first) * unitNs,
      flags: flags ? request.flags : 0,
      op: allReads === true ? TraceOp.read : request.op,
    }));
    const { result, path } = await convert(recorded, to);
    const got = await requestsOf(path);
    expect(got).toEqual(want);
    const count = (op: number): number => (ops.includes(op) ? 0 : all.filter((request) => request.op === op).length);
    expect(result).toMatchObject({
      to,
      requests: want.length,
      flushesLeftOut: count(TraceOp.flush),
      discardsLeftOut: count(TraceOp.discard),
      tooLongLeftOut: 0,
      withoutFlags: flags ? 0 : held.filter((request) => request.flags !== 0).length,
      timeUnitNs: unitNs,
    });
    expect((await readTrace(path)).reader.format).toBe(format);
    // Once more, from the other format: nothing is lost any more.
    const again = await convert(path, to);
    expect(await requestsOf(again.path)).toEqual(want);
  });

  it('keeps the device where the format can say it', async () => {
    for (const to of ['csv', 'blkparse', 'iolog2', 'iolog3'] as const) {
      const { path } = await convert(recorded, to);
      expect([...(await readTrace(path)).counts.devices.keys()]).toEqual(['254,0']);
    }
  });
});

it('packed with gzip it is one gzip file', async () => {
  const plain = await convert(join(FIXTURES, 'pgbench'), 'msr');
  const packed = await convert(join(FIXTURES, 'pgbench'), 'msr', { gzip: true });
  expect(gunzipSync(packed.bytes).equals(plain.bytes)).toBe(true);
  expect(packed.bytes.length).toBeLessThan(plain.bytes.length / 2);
});

describe('devices', () => {
  const text =
    'op,offset_bytes,length_bytes,device\nr,0,512,"8,0"\nw,512,512,sdb_2\nw,0,512,7\nr,0,512,"a ""\n'.replace(
      '"a ""',
      'a b',
    );
  it.each<[WriteFormat, string[]]>([
    ['csv', ['8,0', 'sdb_2', '7', 'a b']],
    ['blkparse', ['8,0', '259,1', '259,2', '259,3']],
    ['iolog2', ['8,0', 'sdb_2', '7', 'a_b']],
    ['msr', ['8.0_0', 'sdb_2', '7_0', 'a.b_0']],
    ['alibaba', ['0', '1', '7', '3']],
    ['tencent', ['0', '1', '7', '3']],
  ])('stay apart in %s', async (to, names) => {
    const { path } = await convert('-', to, { text });
    const got = await readTrace(path, { allDevices: true });
    expect(got.reader.deviceNames).toEqual(names);
    expect(got.lines.map((line) => line.split(' ').slice(1).join(' '))).toEqual([
      'R 0 512',
      'W 1 512',
      'W 0 512',
      'R 0 512',
    ]);
  });

  it('get other names when theirs is taken', async () => {
    const taken = 'op,offset_bytes,length_bytes,device\nr,0,512,x\nw,0,512,0\nw,0,512,a b\nw,0,512,a_b\n';
    for (const to of ['alibaba', 'iolog3', 'msr'] as const) {
      const { path } = await convert('-', to, { text: taken });
      expect(new Set((await readTrace(path, { allDevices: true })).reader.deviceNames).size).toBe(4);
    }
  });

  it('of a format that knows none must be chosen', async () => {
    await expect(convert('-', 'vscsi2', { text })).rejects.toThrow('holds requests of several devices');
    expect((await convert('-', 'vscsi2', { text, device: '7' })).result.requests).toBe(1);
  });
});

it('a request that is too long for vscsi is left out and counted', async () => {
  const text = 'op,offset_bytes,length_bytes\nr,0,4294967296\nr,0,4294966784\n';
  const { result, path } = await convert('-', 'vscsi1', { text });
  expect(result).toMatchObject({ requests: 1, tooLongLeftOut: 1 });
  expect((await readTrace(path)).lines).toEqual(['0 R 0 4294966784']);
});

it('flags and far places survive in CSV and blkparse text', async () => {
  const text =
    'time_ns,op,offset_bytes,length_bytes,flags\n0,write,0,512,fua|preflush|sync|meta|ahead\n' +
    '100000000123456,read,9007199254739969,511,\n100000000123456,flush,0,0,sync\n100000000123457,discard,512,512,sync\n';
  for (const to of ['csv', 'blkparse'] as const) {
    const { path } = await convert('-', to, { text });
    expect((await readTrace(path)).lines).toEqual([
      '0 FWFASM 0 512',
      '100000000123456 R 17592186044414 512',
      '100000000123456 FS 0 0',
      '100000000123457 DS 1 512',
    ]);
  }
});

it('a trace without a request is an error', async () => {
  await expect(convert('-', 'csv', { text: 'op,offset_bytes,length_bytes\n' })).rejects.toMatchObject({
    code: 'BAD_TRACE',
    message: 'standard input: holds no requests, only 0 records; a trace has at least one request',
  });
});

describeWithClient('the real fio', 'fio', (fio) => {
  it.each(['iolog2', 'iolog3'] as const)('replays an %s of ours, every request of it', async (to) => {
    const { path, result } = await convert(join(FIXTURES, 'pgbench'), to);
    expect(result.requests).toBe(15_414);
    const said = execFileSync(
      fio,
      [
        '--name=r',
        '--ioengine=null',
        `--read_iolog=${path}`,
        '--replay_no_stall=1',
        '--size=5g',
        '--output-format=json',
      ],
      { encoding: 'utf8', cwd: directory, stdio: ['ignore', 'pipe', 'ignore'] },
    );
    const job = (JSON.parse(said) as { jobs: Record<string, { total_ios: number; io_bytes: number }>[] }).jobs[0];
    expect(job).toMatchObject({
      error: 0,
      read: { total_ios: 1624, io_bytes: 18_575_360 },
      write: { total_ios: 10_216, io_bytes: 237_625_344 },
      sync: { total_ios: 3574 },
    });
  });
});

describeWithClient('an iolog of version 2 that fio replays', 'fio', () => {
  it('waits in an iolog of version 2 until as long after the beginning as it says, in milliseconds', async () => {
    const trace = join(directory, 'waits.csv');
    const times = Array.from({ length: 11 }, (_, i) => `${i * 1e8},read,${i * 4096},4096`);
    writeFileSync(trace, `time_ns,op,offset_bytes,length_bytes\n${times.join('\n')}\n`);
    const { path } = await convert(trace, 'iolog2');
    const disk = join(directory, 'disk');
    writeFileSync(disk, new Uint8Array(65536));
    const beganMs = performance.now();
    const options = [`--read_iolog=${path}`, `--replay_redirect=${disk}`, '--ioengine=psync', '--output-format=json'];
    const output = execFileSync('fio', ['--name=replay', ...options], { encoding: 'utf8', timeout: 60_000 });
    expect(performance.now() - beganMs).toBeGreaterThan(990);
    const { jobs } = JSON.parse(output.slice(output.indexOf('{'))) as { jobs: { read: { total_ios: number } }[] };
    expect(jobs[0].read.total_ios).toBe(11);
    expect((await readTrace(path)).lines.at(-1)).toBe('1000000000 R 80 4096');
  });
});
