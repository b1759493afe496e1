/** What `trace info` computes, on traces small enough to count by hand, and on the recordings. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { describeTrace, traceReport, type TraceInfo } from '../../src/trace/index.js';
import { TouchedBlocks } from '../../src/trace/touched.js';
import { renderReport } from '../../src/output/report.js';
import { FIXTURES, RECORDINGS, readTrace, temporaryDirectory } from './trace-support.js';

const directory = temporaryDirectory();
const HEADER = 'time_ns,op,offset_bytes,length_bytes,device\n';

function info(path: string, device?: string): Promise<TraceInfo> {
  const options = { action: 'queue' as const, ...(device === undefined ? {} : { device }) };
  return describeTrace(path, options, {
    begins: () => undefined,
    progress: () => undefined,
    turn: () => Promise.resolve(),
  });
}

function infoOf(rows: string[], device?: string): Promise<TraceInfo> {
  const path = join(directory, 'trace.csv');
  writeFileSync(path, HEADER + rows.map((row) => `${row}\n`).join(''));
  return info(path, device);
}

const K4 = 4096;

describe('a small trace', () => {
  const rows = [
    `0,w,0,${2 * K4},`,
    `100,w,${2 * K4},${K4},`,
    `200,r,0,${K4},`,
    `300,r,${100 * K4},512,`,
    '300,flush,0,0,',
    `400,w,${K4},${K4},`,
    `480,d,0,${1000 * K4},`,
  ];

  it('is counted', async () => {
    const got = await infoOf(rows);
    expect(got).toMatchObject({ requests: 7, durationNs: 480, devices: [{ name: '', requests: 7 }] });
    expect(got.operations).toEqual({
      read: {
        requests: 2,
        bytes: K4 + 512,
        meanBytes: (K4 + 512) / 2,
        minBytes: 512,
        maxBytes: K4,
        aligned: 1,
        sequential: 0,
        inStreams: 0,
      },
      write: {
        requests: 3,
        bytes: 4 * K4,
        meanBytes: (4 * K4) / 3,
        minBytes: K4,
        maxBytes: 2 * K4,
        aligned: 3,
        sequential: 1,
        inStreams: 1,
      },
      flush: { requests: 1, bytes: 0, meanBytes: 0, minBytes: 0, maxBytes: 0, aligned: 1, sequential: 0, inStreams: 0 },
      discard: {
        requests: 1,
        bytes: 1000 * K4,
        meanBytes: 1000 * K4,
        minBytes: 1000 * K4,
        maxBytes: 1000 * K4,
        aligned: 1,
        sequential: 0,
        inStreams: 0,
      },
    });
    expect(got.footprint).toEqual({
      endBytes: 100 * K4 + 512,
      uniqueBytes: 4 * K4,
      uniqueReadBytes: 2 * K4,
      uniqueWriteBytes: 3 * K4,
      readAgainRatio: 0.5,
      writtenAgainRatio: 0.25,
    });
    expect(got.interArrival).toEqual({ meanNs: 80, p50Ns: 100, p90Ns: 100, p99Ns: 100, maxNs: 100 });
    expect(got.sizes).toEqual([
      { fromBytes: 0, toBytes: 1024, reads: 1, writes: 0, discards: 0 },
      { fromBytes: 4096, toBytes: 8192, reads: 1, writes: 2, discards: 0 },
      { fromBytes: 8192, toBytes: 16_384, reads: 0, writes: 1, discards: 0 },
      { fromBytes: 2 ** 21, toBytes: 2 ** 22, reads: 0, writes: 0, discards: 1 },
    ]);
  });

  it('is followed over time', async () => {
    const { overTime } = await infoOf(rows);
    expect(overTime.by).toBe('time');
    expect(overTime.intervals).toHaveLength(48);
    const busy = overTime.intervals.filter(({ requests }) => Object.values(requests).some((count) => count > 0));
    expect(
      busy.map(({ startNs, workingSetBytes, footprintBytes }) => [startNs, workingSetBytes, footprintBytes]),
    ).toEqual([
      [0, 2 * K4, 2 * K4],
      [100, K4, 3 * K4],
      [200, K4, 3 * K4],
      [300, K4, 4 * K4],
      [400, K4, 4 * K4],
      [470, 0, 4 * K4],
    ]);
    expect(busy[3]).toMatchObject({
      requests: { read: 1, write: 0, flush: 1, discard: 0 },
      readBytes: 512,
      writeBytes: 0,
    });
  });

  it('whose requests all have one time is followed by their order', async () => {
    const got = await infoOf(Array.from({ length: 96 }, (_, i) => `5,r,${i * K4},${K4},`));
    expect(got.overTime.by).toBe('requests');
    expect(got.overTime.intervals.map(({ requests }) => requests.read)).toEqual(Array.from({ length: 48 }, () => 2));
    expect(got.interArrival).toEqual({ meanNs: 0, p50Ns: 0, p90Ns: 0, p99Ns: 0, maxNs: 0 });
    expect(got.operations.read).toMatchObject({ sequential: 95, inStreams: 95 });
  });

  it('of several streams is sequential in each', async () => {
    const streams = (count: number) =>
      infoOf(
        Array.from(
          { length: 10 * count },
          (_, i) => `${i},w,${((i % count) * 1000 + Math.floor(i / count)) * K4},${K4},`,
        ),
      );
    expect((await streams(2)).operations.write).toMatchObject({ sequential: 0, inStreams: 18 });
    expect((await streams(32)).operations.write).toMatchObject({ sequential: 0, inStreams: 288 });
    expect((await streams(33)).operations.write).toMatchObject({ sequential: 0, inStreams: 0 });
  });

  it('of several devices is looked at together, each for itself where it matters', async () => {
    const both = [`0,w,0,${K4},a`, `1,w,${K4},${K4},b`, `2,r,0,${K4},b`, `3,r,0,${K4},a`];
    const got = await infoOf(both);
    expect(got.devices).toEqual([
      { name: 'a', requests: 2 },
      { name: 'b', requests: 2 },
    ]);
    expect(got.footprint).toMatchObject({ uniqueBytes: 3 * K4, readAgainRatio: 0.5 });
    expect(got.operations.write.sequential).toBe(0);
    expect(await infoOf(both, 'b')).toMatchObject({
      requests: 2,
      footprint: { uniqueBytes: 2 * K4, readAgainRatio: 0 },
    });
  });

  it('of one request has no time between requests, and one of none is refused', async () => {
    expect(await infoOf([`9,r,0,${K4},`])).toMatchObject({ requests: 1, durationNs: 0, interArrival: null });
    await expect(infoOf([])).rejects.toThrow('holds no requests');
  });

  it('that is spread too far says so instead of a footprint', async () => {
    const got = await infoOf(Array.from({ length: 16_385 }, (_, i) => `${i},r,${i * 2 ** 26},${K4},`));
    expect(got.footprint).toMatchObject({ uniqueBytes: null, uniqueReadBytes: null, readAgainRatio: null });
    expect(got.overTime.intervals[3]).toMatchObject({ workingSetBytes: null, footprintBytes: null });
    expect(renderReport(traceReport(got), (title) => title)).toContain('spread too far to tell');
  });
});

it('a block is counted once an interval, and remembered through all', () => {
  const touched = new TouchedBlocks(48);
  for (const interval of [0, 0, 1, 47]) touched.add(0, true, interval, 0, 1);
  touched.add(0, false, 47, 0, K4 + 1);
  expect(touched).toMatchObject({ touched: 2, read: 1, written: 2, readFirst: 1, readAgain: 3, writtenAgain: 0 });
  expect([0, 1, 2, 47].map((interval) => touched.byInterval[interval])).toEqual([1, 1, 0, 2]);
  expect([0, 1, 2, 47].map((interval) => touched.newByInterval[interval])).toEqual([1, 0, 0, 1]);
});

describe.each(RECORDINGS)('%s', (name) => {
  it('has the footprint that counting its blocks gives', async () => {
    const got = await info(join(FIXTURES, name));
    const { lines } = await readTrace(join(FIXTURES, name));
    const blocks = { R: new Set<number>(), W: new Set<number>() };
    let again = 0;
    let reads = 0;
    for (const line of lines) {
      const [, rwbs, sector, bytes] = line.split(' ');
      const kind = rwbs.startsWith('R') ? 'R' : rwbs.startsWith('W') ? 'W' : undefined;
      if (kind === undefined) continue;
      for (let at = Math.floor(Number(sector) / 8); at < (Number(sector) * 512 + Number(bytes)) / K4; at++) {
        if (kind === 'R') reads++;
        if (kind === 'R' && (blocks.R.has(at) || blocks.W.has(at))) again++;
        blocks[kind].add(at);
      }
    }
    expect(got.footprint).toMatchObject({
      uniqueBytes: new Set([...blocks.R, ...blocks.W]).size * K4,
      uniqueReadBytes: blocks.R.size * K4,
      uniqueWriteBytes: blocks.W.size * K4,
      readAgainRatio: again / reads,
    });
    expect(got.overTime.intervals.at(-1)?.footprintBytes).toBe(got.footprint.uniqueBytes);
  });
});
