/**
 * A process that runs a cache in several threads on files with known contents, to be looked at after its end, or to be
 * killed. Started by `shards-run.ts` with one JSON argument; see `ShardsJob`. Its last line on standard output is a
 * `ShardsReport` as JSON.
 */
import { writeFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { openBacking } from '../../src/engine/device/backing-file.js';
import { bestCrc32c } from '../../src/engine/device/native.js';
import { openPmem } from '../../src/engine/device/open.js';
import { ShardedCache } from '../../src/engine/index.js';
import { makeGeometry, SECTOR_BYTES } from '../../src/engine/media/geometry.js';

export interface ShardsJob {
  readonly cache: string;
  readonly backing: string;
  readonly segmentBytes: number;
  readonly jobs: number;
  /** Of each job; Infinity is written as 0: until killed. */
  readonly groups: number;
  readonly seed: number;
  /** Of 100 requests so many are reads, and so many flushes; the rest are writes, a quarter of them FUA. */
  readonly reads: number;
  readonly flushes: number;
  /** Holes are made: in the last sectors of each subtree, which are not written otherwise. */
  readonly punches: boolean;
  /** File for the ids of all sectors at the end, 32 bits each. */
  readonly ids: string;
  /** A file of each job with the ids that have to outlive a crash, 32 bits a sector: this and its number. */
  readonly durable: string;
  readonly ending: 'close' | 'drain';
}

export interface ShardsReport {
  readonly requests: number;
  readonly wrong: readonly string[];
  readonly failed: readonly string[];
  readonly segmentsFreed: number;
  readonly writebackKsets: number;
  readonly deferred: number;
  readonly flushes: number;
  /** Bytes of holes in the backing device. */
  readonly holeBytes: number;
  readonly dirtyKeys: number;
}

/** `workerData` of a job of it. */
export interface ShardsJobData extends ShardsJob {
  readonly shard: number;
  readonly sectors: number;
  /** The latest id written to each sector, and the latest acknowledged; of all jobs. */
  readonly written: Int32Array;
  readonly acked: Int32Array;
  readonly [more: string]: unknown;
}

export interface ShardsJobReport {
  readonly requests: number;
  readonly wrong: readonly string[];
  readonly failed: readonly string[];
}

async function main(job: ShardsJob): Promise<ShardsReport> {
  const pmem = openPmem(job.cache);
  const backing = openBacking(job.backing, { readOnly: false });
  if (job.punches) backing.findPunch();
  const geometry = makeGeometry(job.segmentBytes);
  const clock = { nowMs: () => performance.now() };
  const cache = new ShardedCache({ pmem, backing, clock, geometry, crc: bestCrc32c(), jobs: job.jobs });
  const sectors = backing.sizeBytes / SECTOR_BYTES;
  const written = new Int32Array(new SharedArrayBuffer(4 * sectors));
  const acked = new Int32Array(new SharedArrayBuffer(4 * sectors));
  const workers = cache.seeds.map((seed, shard) => {
    const more = { seed: undefined, shard, sectors, written, acked };
    const workerData = {
      ...job,
      ...more,
      workSeed: job.seed,
      shardSeed: seed,
      device: pmem.device,
      file: backing.shared,
    };
    return new Worker(new URL('./shards-worker.js', import.meta.url), { workerData, transferList: [seed.port] });
  });
  const exits = workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
  const reports = workers.map(
    (worker) =>
      new Promise<ShardsJobReport>((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      }),
  );
  await Promise.race([cache.ready(), ...reports]);
  const done = await Promise.all(reports);
  if (job.ending === 'drain') {
    await cache.drain();
    await cache.collectGarbage();
  }
  const shards = await cache.shardStatus();
  const { dirtyKeys } = await cache.close();
  await Promise.all(exits);
  pmem.close();
  backing.close();
  writeFileSync(job.ids, written);
  const sum = (of: (shard: (typeof shards)[number]) => number) => shards.reduce((all, shard) => all + of(shard), 0);
  return {
    requests: done.reduce((all, { requests }) => all + requests, 0),
    wrong: done.flatMap(({ wrong }) => wrong),
    failed: done.flatMap(({ failed }) => failed),
    segmentsFreed: cache.stats.segmentsFreed,
    writebackKsets: cache.stats.writebackKsets,
    deferred: sum(({ stats }) => stats.deferredRequests),
    flushes: sum(({ stats }) => stats.flushes),
    holeBytes: sum(({ stats }) => stats.backingZeroBytes),
    dirtyKeys,
  };
}

// Whoever started it has ended without killing it: nobody will.
process.stdin.on('end', () => process.exit(1)).resume();
process.stdin.unref();

console.log(JSON.stringify(await main(JSON.parse(process.argv[2]) as ShardsJob)));
