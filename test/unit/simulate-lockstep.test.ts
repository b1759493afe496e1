/**
 * The same trace through real devices in lockstep and simulated: every counter of the engine, its log, its
 * segments and their generations come out the same.
 */
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { bestCrc32c } from '../../src/engine/device/native.js';
import type { BackingDevice } from '../../src/engine/device/backing.js';
import type { Pmem } from '../../src/engine/device/pmem.js';
import { formatDevice, planFormat } from '../../src/engine/create/create-cache.js';
import { Cache } from '../../src/engine/index.js';
import type { CacheMode } from '../../src/engine/media/codecs.js';
import { KERNEL_GEOMETRY, MIB } from '../../src/engine/media/geometry.js';
import { readMetadata } from '../../src/engine/media/metadata.js';
import { makeEphemeralBacking, makeEphemeralPmem } from '../../src/replay/replay-devices.js';
import { LockstepRunner, type AnsweringBacking } from '../../src/replay/lockstep.js';
import { OrderedBacking } from '../../src/replay/ordered-backing.js';
import { FileTraceSource, loopBatches } from '../../src/replay/trace-source.js';
import { VirtualClock } from '../../src/replay/virtual-clock.js';
import { CountingBacking } from '../../src/simulate/counting-backing.js';
import { LogPmem } from '../../src/simulate/log-pmem.js';
import { scanTrace } from '../../src/trace/index.js';
import { generateTrace } from '../support/generated-trace.js';
import { casesOf } from '../support/long.js';

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/traces/${name}`, import.meta.url));

interface Setup {
  readonly trace: string;
  readonly cacheMiB: number;
  readonly gcPercent: number;
  readonly loops: number;
  readonly dataCrc?: boolean;
  readonly mode?: CacheMode;
}

const opened: { close(): void }[] = [];
afterEach(() => opened.splice(0).forEach((device) => device.close()));

/** All that can be told apart of a cache after a run. */
async function outcome(setup: Setup, pmem: Pmem, backing: BackingDevice & AnsweringBacking) {
  opened.push(pmem, backing);
  const clock = new VirtualClock();
  const cache = new Cache({ pmem, backing, clock, crc: bestCrc32c() });
  const path = fixture(setup.trace);
  const footprint = await scanTrace(path, { action: 'queue' });
  const onProgress = () => {};
  const runner = new LockstepRunner({ cache, pmem, backing, clock, limit: Infinity, verifier: undefined, onProgress });
  const source = new FileTraceSource(path, { action: 'queue' }, footprint);
  await runner.run(loopBatches(source, setup.loops, footprint.durationNs));
  const { run, timeline } = runner.describe();
  const { dirtyKeys, dirtyBytes } = await runner.close();
  cache.check();
  const { stats, ...status } = cache.status();
  const { chain, keyTail, dirtyTail } = readMetadata(pmem, KERNEL_GEOMETRY);
  return {
    stats: { ...stats },
    status,
    run: { ...run },
    timeline,
    dirtyLeft: { dirtyKeys, dirtyBytes },
    generations: [...chain.generation],
    tails: [keyTail.value, dirtyTail.value],
    endMs: clock.nowMs(),
  };
}

async function both(setup: Setup) {
  const { endBytes } = await scanTrace(fixture(setup.trace), { action: 'queue' });
  const backingBytes = Math.ceil(endBytes / MIB) * MIB;
  const cacheBytes = setup.cacheMiB * MIB;
  const { dataCrc = false, mode = 'writeback', gcPercent } = setup;
  const realPmem = makeEphemeralPmem({ cacheBytes, dataCrc, gcPercent, mode });
  const real = await outcome(setup, realPmem, new OrderedBacking(makeEphemeralBacking(backingBytes)));
  const logPmem = new LogPmem(cacheBytes);
  formatDevice(logPmem, planFormat(cacheBytes, { dataCrc, gcPercent, mode }));
  const simulated = await outcome(setup, logPmem, new CountingBacking(backingBytes));
  return { real, simulated };
}

const PGBENCH = 'pgbench.blktrace';
const EXT4 = 'ext4-sqlite-git.blktrace';

describe('a simulation does what a lockstep replay does', { timeout: 120_000 }, () => {
  const SHAPES = [512, 1024, 2048].flatMap((size) =>
    [0, 90].flatMap((gc) => [PGBENCH, EXT4].map((trace) => [trace, size, gc] as const)),
  );
  it.each(casesOf(SHAPES, 3))('%s, %d MiB, gc_percent %d', async (trace, cacheMiB, gcPercent) => {
    // The smallest cache is gone round more than once.
    const loops = cacheMiB === 512 ? 4 : 1;
    const { real, simulated } = await both({ trace, cacheMiB, gcPercent, loops });
    expect(simulated).toEqual(real);
    expect(real.stats.reads).toBe(loops * (trace === PGBENCH ? 1624 : 178));
    expect(real.stats.writebackKeys).toBeGreaterThan(0);
    if (gcPercent === 0) expect(real.stats.gcKeys).toBeGreaterThan(real.stats.writebackKeys * 0.9);
    if (trace === PGBENCH && loops > 1) expect(Math.max(...real.generations)).toBeGreaterThan(0);
  });

  const MODES: readonly [CacheMode, boolean][] = [
    ['writethrough', false],
    ['writearound', true],
    ['writeonly', true],
    ['writeback', true],
  ];
  it.each(casesOf(MODES, 2))('in mode %s, data_crc %s', async (mode, dataCrc) => {
    const { real, simulated } = await both({ trace: PGBENCH, cacheMiB: 512, gcPercent: 70, loops: 2, mode, dataCrc });
    expect(simulated).toEqual(real);
    expect(real.stats.writebackKeys + real.stats.directWrites).toBeGreaterThan(0);
  });

  it('keeps no more of the cache than its log, wherever that has got to', async () => {
    const pmem = new LogPmem(512 * MIB);
    formatDevice(pmem, planFormat(512 * MIB, { dataCrc: false, gcPercent: 0 }));
    const backing = new CountingBacking(64 * MIB);
    const clock = new VirtualClock();
    const cache = new Cache({ pmem, backing, clock, crc: bestCrc32c() });
    const onProgress = () => {};
    const runner = new LockstepRunner({
      cache,
      pmem,
      backing,
      clock,
      limit: Infinity,
      verifier: undefined,
      onProgress,
    });
    const requests = 1_000_000;
    const sectors = { requests, spanBytes: 64 * MIB, lengthBytes: 512, readShare: 0, flushEvery: 500 };
    await runner.run(toAsync(generateTrace({ ...sectors, intervalNs: 1000, seed: 1 })));
    // 2.4 segments of ksets were written; where the log is now is all that is left.
    expect(cache.status().keyHead.segment).not.toBe(0);
    expect(cache.stats.gcKeys).toBe(requests - requests / 500);
    expect(pmem.logSegments).toBeLessThanOrEqual(2);
    await runner.close();
  });
});

async function* toAsync<T>(values: Iterable<T>): AsyncGenerator<T, void, undefined> {
  await Promise.resolve();
  yield* values;
}
