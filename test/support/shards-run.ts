/** Runs `shards-process.ts` on new devices, and looks at what it leaves. */
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openBacking, type BackingFile } from '../../src/engine/device/backing-file.js';
import { bestCrc32c } from '../../src/engine/device/native.js';
import { openPmem } from '../../src/engine/device/open.js';
import { formatDevice, planFormat } from '../../src/engine/create/create-cache.js';
import { Cache, CacheDriver, CacheIo } from '../../src/engine/index.js';
import { KIB, makeGeometry, MIB, SECTOR_BYTES } from '../../src/engine/media/geometry.js';
import { checkCache, type CheckResult } from '../../src/fsck/check.js';
import { runnable } from './run-ts.js';
import type { ShardsJob, ShardsReport } from './shards-process.js';
import { readStamp, stamp, wordsOf } from './stamps.js';

const SEGMENT_BYTES = 64 * KIB;
/** Where persisting is a fence, so that threads come close to one another. */
const MEMORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
const BACKING_BYTES = 24 * MIB;
const SECTORS = BACKING_BYTES / SECTOR_BYTES;

export interface ShardsOptions {
  readonly jobs: number;
  readonly groups: number;
  readonly seed: number;
  readonly segments?: number;
  readonly dataCrc?: boolean;
  readonly gcPercent?: number;
  readonly reads?: number;
  readonly flushes?: number;
  readonly punches?: boolean;
  readonly ending?: ShardsJob['ending'];
}

export class ShardsRun {
  private readonly folder = mkdtempSync(join(MEMORY, 'pcache-shards-'));
  private readonly job: ShardsJob;
  private readonly geometry = makeGeometry(SEGMENT_BYTES);

  constructor(options: ShardsOptions) {
    const path = (name: string) => join(this.folder, name);
    const { segments = 20, dataCrc = false, gcPercent = 40, reads = 30, flushes = 1, ending = 'close' } = options;
    const { punches = false } = options;
    const { jobs, groups, seed } = options;
    this.job = {
      cache: path('cache'),
      backing: path('backing'),
      segmentBytes: SEGMENT_BYTES,
      jobs,
      groups,
      seed,
      reads,
      flushes,
      punches,
      ids: path('ids'),
      durable: path('durable-'),
      ending,
    };
    const cacheBytes = 20 * KIB + segments * SEGMENT_BYTES;
    for (const [file, bytes] of [
      [this.job.cache, cacheBytes],
      [this.job.backing, BACKING_BYTES],
    ] as const) {
      const fd = openSync(file, 'wx');
      ftruncateSync(fd, bytes);
      if (file === this.job.backing) writeSync(fd, stampedBacking());
      closeSync(fd);
    }
    const pmem = openPmem(this.job.cache);
    formatDevice(pmem, planFormat(cacheBytes, { dataCrc, gcPercent, geometry: this.geometry }));
    pmem.close();
  }

  /** Runs it to its end. @throws what it says when that is not in order */
  async finish(): Promise<ShardsReport> {
    const { child, output } = this.start();
    const [status, [stdout, stderr]] = await Promise.all([
      new Promise((resolve) => child.once('exit', (code, signal) => resolve(signal ?? code))),
      output,
    ]);
    if (status !== 0) throw new Error(`ended with ${String(status)}: ${stderr}`);
    return JSON.parse(stdout) as ShardsReport;
  }

  /** Runs it until every job has had a flush and so many sectors have to outlive a crash, and for a while, and kills it. */
  async kill({ durableSectors, afterMs }: { durableSectors: number; afterMs: number }): Promise<void> {
    const { child, output } = this.start();
    const ended = new Promise<unknown>((resolve) => child.once('exit', (code, signal) => resolve(signal ?? code)));
    const isFarEnough = () => this.hasFlushed && this.durableIds.filter((id) => id > 0).length >= durableSectors;
    while (child.exitCode === null && !isFarEnough()) await sleep(20);
    await sleep(afterMs);
    child.kill('SIGKILL');
    const [end, [, stderr]] = await Promise.all([ended, output]);
    if (end !== 'SIGKILL') throw new Error(`ended with ${String(end)} before it was killed: ${stderr}`);
  }

  /** A flush writes the whole file, up to its end. */
  private get hasFlushed(): boolean {
    const paths = Array.from({ length: this.job.jobs }, (_, shard) => `${this.job.durable}${shard}`);
    return paths.every((path) => existsSync(path) && statSync(path).size === 4 * SECTORS);
  }

  private start() {
    const child = spawn(process.execPath, [runnable('test/support/shards-process.ts'), JSON.stringify(this.job)]);
    const collect = async (stream: AsyncIterable<Buffer>) => {
      let text = '';
      for await (const piece of stream) text += piece.toString();
      return text;
    };
    return { child, output: Promise.all([collect(child.stdout), collect(child.stderr)]) };
  }

  check(): CheckResult {
    const pmem = openPmem(this.job.cache);
    try {
      return checkCache(pmem, { geometry: this.geometry, data: true, crc: bestCrc32c(), backingBytes: BACKING_BYTES });
    } finally {
      pmem.close();
    }
  }

  /** The last id written to each sector. */
  get writtenIds(): Int32Array {
    return new Int32Array(new Uint8Array(readFileSync(this.job.ids)).buffer);
  }

  /** The id of each sector that has to be there after a crash, or a later one. */
  get durableIds(): Int32Array {
    const all = new Int32Array(SECTORS);
    for (let shard = 0; shard < this.job.jobs; shard++) {
      const bytes = readFileSync(`${this.job.durable}${shard}`);
      const some = new Int32Array(new Uint8Array(bytes).buffer, 0, bytes.length >>> 2);
      some.forEach((id, sector) => (all[sector] = Math.max(all[sector], id)));
    }
    return all;
  }

  /** Ids of all sectors: through the engine, as one thread runs it, and then of the backing device once drained. */
  async readBack(): Promise<{ readonly cache: Int32Array; readonly backing: Int32Array }> {
    const pmem = openPmem(this.job.cache);
    const backing = openBacking(this.job.backing, { readOnly: false });
    const clock = { nowMs: () => performance.now() };
    const cache = new Cache({ pmem, backing, clock, geometry: this.geometry, crc: bestCrc32c() });
    const driver = new CacheDriver(cache, clock);
    const bytes = new Uint8Array(BACKING_BYTES);
    const io = new CacheIo(driver, pmem);
    for (let at = 0; at < BACKING_BYTES; at += MIB) await io.read(at, bytes.subarray(at, at + MIB));
    cache.check();
    await driver.drain();
    await driver.close();
    pmem.close();
    const drained = readAll(backing);
    backing.close();
    return { cache: idsOf(bytes), backing: idsOf(drained) };
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function stampedBacking(): Uint8Array {
  const bytes = new Uint8Array(BACKING_BYTES);
  const words = wordsOf(bytes);
  for (let sector = 0; sector < SECTORS; sector++) stamp(words, (sector * SECTOR_BYTES) / 4, sector, 0);
  return bytes;
}

function readAll(backing: BackingFile): Uint8Array {
  const bytes = new Uint8Array(BACKING_BYTES);
  backing.readSync(0, bytes, 0, BACKING_BYTES);
  return bytes;
}

function idsOf(bytes: Uint8Array): Int32Array {
  const words = wordsOf(bytes);
  return Int32Array.from({ length: SECTORS }, (_, sector) => readStamp(words, (sector * SECTOR_BYTES) / 4, sector));
}
