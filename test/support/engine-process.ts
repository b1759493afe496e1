/**
 * A process that runs the engine on a cache and a backing device with known content, to be killed from
 * outside. Started by `runEngine` of `test/kernel/host.ts` with one JSON argument; see `EngineJob`.
 *
 * It writes how many of its requests have ended into the file `acks` as it goes, one 32-bit word: that
 * outlives a kill. Its last line on standard output is an `EngineReport` as JSON; exit status 0.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { openBacking } from '../../src/engine/device/backing-file.js';
import { bestCrc32c } from '../../src/engine/device/native.js';
import { openPmem } from '../../src/engine/device/open.js';
import type { Pmem } from '../../src/engine/device/pmem.js';
import { Cache, CacheDriver, Op, RequestFlag, RequestGroup, RequestState } from '../../src/engine/index.js';
import { KERNEL_GEOMETRY, MIB, SECTOR_BYTES } from '../../src/engine/media/geometry.js';
import { Random } from '../../src/engine/sim/random.js';
import { KernelOp, requestsOf, writes, type Request, type Workload } from '../kernel/requests.js';
import { readStamp, stamp, wordsOf } from './stamps.js';

export interface EngineJob {
  readonly cache: string;
  readonly backing: string;
  readonly slots: number;
  readonly acks: string;
  /** File with the id of every sector before the first request, 32 bits each. */
  readonly versions: string;
  /** None to open, check every sector and end. */
  readonly workload?: Workload;
  /** Set before the first request. */
  readonly gcPercent?: number;
  /** Stop write-back after this number of requests, so that what later ones write stays dirty. */
  readonly holdWritebackAfter?: number;
  /** End the workload when the log is so close to the end of its segment, bytes. */
  readonly stopBeforeSegmentEnd?: number;
  /**
   * What to do when all is done. `hang`: stay until killed, while open ksets grow old and write-back goes on. `freeze`:
   * as `hang`, but do nothing more, so that what is dirty stays dirty however late the kill comes.
   */
  readonly ending: 'close' | 'drain' | 'hang' | 'freeze';
}

export interface EngineReport {
  readonly requests: number;
  /** Sectors that a read gave with other contents than they had; the first few are told on standard error. */
  readonly wrongSectors: number;
  readonly segmentsFreed: number;
  readonly gcKsets: number;
  readonly statusLine: string;
}

/** A read, and the id of each of its sectors when it was submitted. */
interface ExpectedRead {
  readonly sector: number;
  readonly sectors: number;
  /** Where its data goes in the arena, bytes. */
  readonly at: number;
  readonly ids: Int32Array;
}

const ARENA_BYTES = 4 * MIB;
/** The most requests under way at once: of a mixed workload, which may be killed, and of a fill. */
const MIXED_GROUP_MAX = 8;
const FILL_GROUP_MAX = 128;
const SECTOR_WORDS = SECTOR_BYTES / 4;
const ENGINE_OP: readonly number[] = [Op.read, Op.write, Op.write, Op.flush]; // by KernelOp

class EngineRun {
  private readonly memory = new Uint8Array(ARENA_BYTES);
  private readonly words = wordsOf(this.memory);
  private readonly group: RequestGroup;
  private readonly acksFd: number;
  private readonly ack = new Uint32Array(1);
  private readonly expected: ExpectedRead[] = [];
  private arenaUsed = 0;
  wrongSectors = 0;

  constructor(
    private readonly job: EngineJob,
    private readonly driver: CacheDriver,
    pmem: Pmem,
    private readonly ids: Int32Array,
  ) {
    this.group = new RequestGroup(FILL_GROUP_MAX, pmem.registerArena(this.memory));
    this.acksFd = openSync(job.acks, 'w');
  }

  get requests(): number {
    return this.ack[0];
  }

  async work(workload: Workload): Promise<void> {
    const random = new Random(workload.seed ^ 0x5bf03635);
    const nextRoom = () => (workload.kind === 'fill' ? FILL_GROUP_MAX : random.between(1, MIXED_GROUP_MAX));
    let room = nextRoom();
    for (const one of requestsOf(workload)) {
      if (this.group.count === room || this.arenaUsed + one.sectors * SECTOR_BYTES > ARENA_BYTES) {
        await this.submit();
        if (this.isNearSegmentEnd()) return;
        room = nextRoom();
      }
      this.add(one);
    }
    await this.submit();
  }

  /** Reads the whole device through the engine. */
  async checkAll(): Promise<void> {
    const step = MIB / SECTOR_BYTES;
    for (let sector = 0; sector < this.ids.length; sector += step) {
      const sectors = Math.min(step, this.ids.length - sector);
      this.add({ op: KernelOp.read, thread: 0, sector, sectors, id: 0 });
      await this.submit();
    }
    this.ack[0] = 0;
  }

  close(): void {
    closeSync(this.acksFd);
  }

  private add(one: Request): void {
    const at = this.arenaUsed;
    this.arenaUsed += one.sectors * SECTOR_BYTES;
    const flags = one.op === KernelOp.fua ? RequestFlag.fua : 0;
    this.group.add(ENGINE_OP[one.op], one.sector * SECTOR_BYTES, one.sectors * SECTOR_BYTES, at, flags);
    if (writes(one)) {
      this.ids.fill(one.id, one.sector, one.sector + one.sectors);
      for (let i = 0; i < one.sectors; i++) stamp(this.words, at / 4 + i * SECTOR_WORDS, one.sector + i, one.id);
    } else if (one.op === KernelOp.read) {
      const { sector, sectors } = one;
      this.expected.push({ sector, sectors, at, ids: this.ids.slice(sector, sector + sectors) });
    }
  }

  private async submit(): Promise<void> {
    const { group, driver } = this;
    if (group.count === 0) return;
    await new Promise<void>((resolve) => {
      group.onRequestDone = () => {
        if (group.pending === 0) setImmediate(resolve);
      };
      const pending = driver.cache.submit(group);
      driver.kick();
      if (pending === 0) setImmediate(resolve);
    });
    for (let i = 0; i < group.count; i++) {
      if (group.state[i] !== RequestState.done) throw group.errors[i] ?? new Error(`request ${i} is not done`);
    }
    this.ack[0] += group.count;
    if (this.ack[0] >= (this.job.holdWritebackAfter ?? Infinity)) driver.cache.holdWriteback = true;
    writeSync(this.acksFd, new Uint8Array(this.ack.buffer), 0, 4, 0);
    for (const one of this.expected.splice(0)) this.compare(one);
    group.clear();
    this.arenaUsed = 0;
  }

  /**
   * A write that was submitted in the same group after the read is under way with it: the read may give what it wrote,
   * as when it waits for the backing device, and write-back is there first.
   */
  private compare(read: ExpectedRead): void {
    for (let i = 0; i < read.sectors; i++) {
      const id = readStamp(this.words, read.at / 4 + i * SECTOR_WORDS, read.sector + i);
      const isOfLaterWrite = id > read.ids[i] && id <= this.ids[read.sector + i];
      if (id === read.ids[i] || isOfLaterWrite) continue;
      if (this.wrongSectors++ < 10) console.error(`sector ${read.sector + i}: read ${id}, not ${read.ids[i]}`);
    }
  }

  private isNearSegmentEnd(): boolean {
    const { stopBeforeSegmentEnd } = this.job;
    if (stopBeforeSegmentEnd === undefined) return false;
    return KERNEL_GEOMETRY.segmentDataBytes - this.driver.cache.status().keyHead.offsetBytes <= stopBeforeSegmentEnd;
  }
}

async function main(job: EngineJob): Promise<EngineReport> {
  const pmem = openPmem(job.cache);
  const backing = openBacking(job.backing, { readOnly: false });
  const clock = { nowMs: () => performance.now() };
  const cache = new Cache({ pmem, backing, clock, slots: job.slots, crc: bestCrc32c() });
  const driver = new CacheDriver(cache, clock);
  const versions = readFileSync(job.versions);
  const ids = new Int32Array(new Uint8Array(versions).buffer);
  const run = new EngineRun(job, driver, pmem, ids);
  if (job.gcPercent !== undefined) cache.setGcPercent(job.gcPercent);
  if (job.workload === undefined) await run.checkAll();
  else await run.work(job.workload);
  if (job.ending === 'freeze') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  if (job.ending === 'hang') await new Promise(() => setInterval(() => undefined, 1000));
  if (job.ending === 'drain') await driver.drain();
  await driver.close();
  const { segmentsFreed, gcKsets } = cache.stats;
  const report = {
    requests: run.requests,
    wrongSectors: run.wrongSectors,
    segmentsFreed,
    gcKsets,
    statusLine: cache.status().line,
  };
  run.close();
  pmem.close();
  backing.close();
  return report;
}

console.log(JSON.stringify(await main(JSON.parse(process.argv[2]) as EngineJob)));
