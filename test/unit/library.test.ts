/** The library as a program uses it: everything that `import … from 'pcache'` gives, on files. */
import { closeSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { DualWriter } from '../../src/engine/copies/dual-writer.js';
import { openPmem } from '../../src/engine/device/open.js';
import { loadForInspection, openForInspection } from '../../src/engine/inspect/open.js';
import { encodePosition } from '../../src/engine/media/codecs.js';
import * as pcache from '../../src/index.js';

const { checkCache, formatCache, openCache, openLogicalDevice, openTrace, PcacheError, replayTrace, simulateTrace } =
  pcache;
const TRACE = fileURLToPath(new URL('../../fixtures/traces/pgbench.blktrace', import.meta.url));
const MIB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'pcache-library-'));
const paths = { cachePath: join(folder, 'cache'), backingPath: join(folder, 'backing') };

beforeEach(async () => {
  await formatCache({ cachePath: paths.cachePath, sizeBytes: 512 * MIB, dataCrc: true, force: true });
  writeFileSync(paths.backingPath, new Uint8Array(8 * MIB).fill(1));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const filled = (lengthBytes: number, value: number): Uint8Array => new Uint8Array(lengthBytes).fill(value);

it('the package exports what docs/api.md lists, and nothing else', () => {
  expect(Object.keys(pcache).sort()).toEqual([
    'CACHE_MODES',
    'LogicalDevice',
    'OpenCache',
    'PcacheError',
    'TRACE_FORMATS',
    'TraceFlag',
    'TraceOp',
    'checkCache',
    'formatCache',
    'openCache',
    'openLogicalDevice',
    'openTrace',
    'replayReport',
    'replayTrace',
    'reportPage',
    'simulateTrace',
  ]);
});

describe('formatCache', () => {
  it('makes a cache and reports its segments', async () => {
    const cachePath = join(folder, 'new');
    const seen: number[] = [];
    const made = await formatCache({ cachePath, sizeBytes: 512 * MIB, onProgress: (done) => seen.push(done) });
    expect(made).toMatchObject({ segmentCount: 31, dataCrc: false, gcPercent: 70, mode: 'writeback' });
    expect(seen.at(-1)).toBe(31);
    expect(checkCache({ cachePath })).toMatchObject({ clean: true, findings: [] });
  });

  it('refuses a device that holds a cache unless force is set', async () => {
    await expect(formatCache({ cachePath: paths.cachePath })).rejects.toMatchObject({ code: 'ALREADY_PCACHE' });
  });

  it('ends with INTERRUPTED when its signal is aborted, and removes the file that it created', async () => {
    const cachePath = join(folder, 'aborted');
    const formatting = formatCache({ cachePath, sizeBytes: 512 * MIB, signal: AbortSignal.abort() });
    await expect(formatting).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect(() => checkCache({ cachePath })).toThrow(PcacheError);
  });
});

describe('openCache', () => {
  it('reads what was written, in the same life and in the next', async () => {
    {
      await using cache = await openCache({ ...paths, verifyReads: true });
      expect(cache.sizeBytes).toBe(8 * MIB);
      expect(cache.mode).toBe('writeback');
      await cache.write(4096, filled(8192, 7));
      await cache.flush();
      expect(await cache.read(4096, 8192)).toEqual(filled(8192, 7));
      expect(await cache.read(0, 512)).toEqual(filled(512, 1));
    }
    const cache = await openCache(paths);
    expect(await cache.read(8192, 4096)).toEqual(filled(4096, 7));
    await cache.drain();
    expect(await cache.close()).toEqual({ dirtyKeys: 0, dirtyBytes: 0 });
  });

  it('runs the requests of one call in order and gives each an outcome of its own', async () => {
    await using cache = await openCache(paths);
    const [before, after] = [new Uint8Array(512), new Uint8Array(1024)];
    const outcomes = await cache.run([
      { op: 'read', offsetBytes: 1024, target: before },
      { op: 'write', offsetBytes: 1024, source: filled(512, 9), fua: true },
      { op: 'read', offsetBytes: 1024, target: after },
      { op: 'write', offsetBytes: 100, source: filled(512, 9) },
      { op: 'flush' },
    ]);
    expect(outcomes.map(({ error }) => error?.code)).toEqual([
      undefined,
      undefined,
      undefined,
      'MISALIGNED',
      undefined,
    ]);
    expect(outcomes[0].missBytes).toBe(512);
    expect(before).toEqual(filled(512, 1));
    expect(after.subarray(0, 512)).toEqual(filled(512, 9));
    expect(after.subarray(512)).toEqual(filled(512, 1));
    expect(await cache.run([])).toEqual([]);
  });

  it('rejects single requests with the reason, and every request after the close', async () => {
    const cache = await openCache(paths);
    await expect(cache.read(8 * MIB, 512)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
    expect(() => cache.setGcPercent(95)).toThrow('gc_percent 95');
    cache.setGcPercent(50);
    expect(cache.status().gcPercent).toBe(50);
    const report = await cache.close();
    expect(await cache.close()).toBe(report);
    await expect(cache.read(0, 512)).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(cache.flush()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  it('locks both devices until it is closed', async () => {
    const cache = await openCache(paths);
    await expect(openCache(paths)).rejects.toMatchObject({ code: 'BUSY' });
    await cache.close();
    await (await openCache(paths)).close();
  });

  it('refuses a cache whose dirty data may be lost unless the loss is accepted', async () => {
    const cache = await openCache(paths);
    const writes = Array.from({ length: 60 }, (_, n) => cache.write(n * 4096, filled(4096, 3), { fua: true }));
    await Promise.all([...writes, cache.close()]);
    const devices = openForInspection({ ...paths, native: true });
    const { dirtyTail } = loadForInspection(devices).metadata;
    devices.close();
    const pmem = openPmem(paths.cachePath);
    // All of it is dirty again.
    DualWriter.over(pmem, dirtyTail).write((seq) => encodePosition({ segment: 0, offsetBytes: 0 }, seq));
    pmem.write(32 * 1024, filled(4, 0xff), 0, 4); // CRC of the first kset, which has others behind it
    pmem.persist();
    pmem.close();
    await expect(openCache(paths)).rejects.toMatchObject({ code: 'BAD_MEDIA' });
    await (await openCache({ ...paths, acceptLoss: true })).close();
  });

  it('refuses one device as both, and closes what it opened when it fails', async () => {
    await expect(openCache({ ...paths, backingPath: paths.cachePath })).rejects.toMatchObject({ code: 'USAGE' });
    truncateSync(paths.cachePath, 4096);
    await expect(openCache(paths)).rejects.toBeInstanceOf(PcacheError);
    await formatCache({ cachePath: paths.cachePath, sizeBytes: 512 * MIB, force: true });
    await (await openCache(paths)).close();
  });
});

describe('openLogicalDevice', () => {
  it('reads cached data over the backing device and changes neither', async () => {
    const cache = await openCache(paths);
    await cache.write(512, filled(512, 5), { fua: true });
    await cache.close();
    using device = openLogicalDevice(paths);
    expect(device.sizeBytes).toBe(8 * MIB);
    expect([...device.read(511, 514)]).toEqual([1, ...filled(512, 5), 1]);
    device.close();
    expect(() => device.read(0, 1)).toThrow('closed');
  });

  it('without a backing device refuses what is not cached', () => {
    using device = openLogicalDevice({ cachePath: paths.cachePath });
    expect(() => device.read(0, 512)).toThrow(PcacheError);
  });
});

describe('checkCache', () => {
  it('reports damage as findings, with everything that it examined', () => {
    const fd = openSync(paths.cachePath, 'r+');
    writeSync(fd, filled(4, 0xff), 0, 4, 16 * 1024);
    closeSync(fd);
    const { findings, examined, notChecked } = checkCache({ cachePath: paths.cachePath, checkPayload: false });
    expect(findings.map(({ code }) => code)).toContain('KEY_TAIL_LOST');
    expect(examined.segments).toBe(31);
    expect(notChecked.length).toBeGreaterThan(0);
  });
});

describe('traces', () => {
  it('openTrace hands out the requests of a recording in order of time', async () => {
    await using trace = await openTrace(TRACE);
    let requests = 0;
    let lastNs = 0;
    for await (const batch of trace.batches()) {
      expect(batch.timeNs[0]).toBeGreaterThanOrEqual(lastNs);
      lastNs = batch.timeNs[batch.count - 1];
      requests += batch.count;
    }
    expect(requests).toBe(trace.counts.selected);
  });

  it('replayTrace replays on temporary devices and its result makes a report', async () => {
    let seen = 0;
    const result = await replayTrace({ tracePath: TRACE, requestsMax: 3000, onProgress: (done) => (seen = done) });
    expect(result).toMatchObject({ simulated: false, interrupted: false });
    expect(seen).toBeGreaterThan(0);
    expect(pcache.replayReport(result).map(({ title }) => title)).toContain('Requests');
    expect(pcache.reportPage(result)).toContain('<!doctype html>');
  });

  it('simulateTrace gives latencies with a model only', async () => {
    const plain = await simulateTrace({ tracePath: TRACE, requestsMax: 1000, cacheBytes: 512 * MIB });
    expect(plain).toMatchObject({ simulated: true, model: null });
    const modelled = await simulateTrace({ tracePath: TRACE, requestsMax: 1000, model: 'nvme' });
    expect(modelled.latency?.write.meanNs).toBeGreaterThan(0);
  });

  it('a run that is aborted ends early and says so', async () => {
    const result = await simulateTrace({ tracePath: TRACE, signal: AbortSignal.abort() });
    expect(result.interrupted).toBe(true);
  });
});
