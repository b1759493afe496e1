/**
 * A chain of sides that work on one cache in turn, our engine and the kernel, each killed or stopped at a
 * moment that the seed chooses. After each, everything on the device is compared with what may be there.
 */
import { expect } from 'vitest';
import type { CacheMode } from '../../src/engine/media/codecs.js';
import { SUBTREE_BYTES } from '../../src/engine/media/geometry.js';
import { Random } from '../../src/engine/sim/random.js';
import { printed, runGuest, statusLines, type TestKernel } from '../support/kernel.js';
import {
  ENGINE_IN_FLIGHT,
  expectSound,
  format,
  logicalDevice,
  predictedStatus,
  runEngine,
  type Images,
} from './host.js';
import { afterAll, bytesOfIds, decodeAcks, differences, judgeCrash } from './ledger.js';
import { encodeRequests, firstRequests, requestsOf, type Request, type Workload } from './requests.js';
import { expectStatus, keyHeadSegment, segmentsUsed } from './status.js';

const KERNEL_REQUESTS = 3000;
const ENGINE_REQUESTS = 4000;
const KERNEL_THREADS = 2;
const FILL_MAX = 500_000;
/** A nearly full cache has to be written back by an emulated machine before it takes more. */
const GUEST_SECONDS = 400;
const CACHE_BYTES = 512 * 1024 * 1024;
/** Ids of one side's requests; more than it ever has. */
const IDS_PER_SIDE = 1_000_000;
const CRASH_SHARE = 0.8;
/**
 * The backing device is slowed down, so that much stays dirty, only where the kernel's writes find room
 * without write-back: each kset then takes as long as the delay.
 */
const HELD_MAX_SEGMENTS_USED = 16;

export interface ChainOptions {
  readonly kernel: TestKernel;
  readonly seed: number;
  readonly images: Images;
  readonly dataCrc: boolean;
  /** Of a cache that our side makes. */
  readonly mode: CacheMode;
  readonly first: 'ours' | 'kernel';
  /** Which side is to find the log near the end of its segment, and so makes it hop. */
  readonly fills: 'before ours' | 'before the kernel';
  readonly report: (line: string) => void;
}

export class Chain {
  /** The write that every sector holds, as last read from the device. */
  ids: Int32Array;
  requests = 0;
  private readonly random: Random;
  private side = 0;
  private filled = false;
  /** Segment of the log that the next side has to leave. */
  private mustLeave: number | undefined;

  constructor(private readonly options: ChainOptions) {
    this.random = new Random(options.seed);
    this.ids = options.images.initialIds;
  }

  /** Each side twice, in turn, then our engine to the end: everything is written back. */
  async run(): Promise<void> {
    const { images, first, dataCrc, mode } = this.options;
    if (first === 'kernel') images.blankCache(CACHE_BYTES);
    else await format(images, '--size', String(CACHE_BYTES), '--mode', mode, ...(dataCrc ? ['--data-crc'] : []));
    const order = first === 'ours' ? ['ours', 'kernel', 'ours', 'kernel'] : ['kernel', 'ours', 'kernel', 'ours'];
    for (const side of order) {
      this.side++;
      if (side === 'ours') await this.ours();
      else await this.kernel();
    }
    await runEngine(images, this.ids, { slots: 1, ending: 'drain' });
    expect(differences(images.backingIds(), this.ids), 'the backing device when all is written back').toEqual([]);
    await this.lookAt((found) => expect(differences(found, this.ids)).toEqual([]));
  }

  /** Late enough for a side that has to leave a segment of the log. */
  private crashMoment(requests: number): number {
    const least = this.mustLeave === undefined ? 0.2 : 0.5;
    return this.random.between(requests * least, requests * 0.95);
  }

  private workload(kind: Workload['kind'], count: number, threads: number): Workload {
    const firstId = this.side * IDS_PER_SIDE + (kind === 'mixed' ? FILL_MAX : 0);
    return { kind, seed: this.random.next(), count, deviceSectors: this.ids.length, threads, firstId };
  }

  /** Checks the cache, reads it, has the contents judged, and takes them for what the device holds. */
  private async lookAt(judge: (found: Int32Array) => void): Promise<string> {
    await expectSound(this.options.images);
    const { ids, sha256 } = await logicalDevice(this.options.images);
    judge(ids);
    this.ids = ids;
    const status = await predictedStatus(this.options.images);
    this.options.report(`  the log now: ${status}`);
    if (this.mustLeave !== undefined) {
      expect(keyHeadSegment(status), 'segment of the log, which was nearly full').not.toBe(this.mustLeave);
      this.mustLeave = undefined;
    }
    return sha256;
  }

  private judge(
    workload: Workload,
    acked: readonly number[],
    inFlight: number,
    name: string,
  ): (found: Int32Array) => void {
    const requests: Request[] = firstRequests(workload, workload.count);
    return (found) => {
      const verdict = judgeCrash(this.ids, requests, acked, inFlight, found);
      expect(verdict.wrong).toEqual([]);
      expect(verdict.requestsEnded).toBe(acked.reduce((sum, n) => sum + n));
      this.tell(
        name,
        `killed after ${verdict.requestsEnded} of ${workload.count} requests, ${verdict.durableSectors} sectors durable, ${verdict.lostSectors} lost legally`,
      );
      this.requests += verdict.requestsEnded;
    };
  }

  private judgeWhole(workload: Workload, name: string): (found: Int32Array) => void {
    return (found) => {
      expect(differences(found, afterAll(this.ids, requestsOf(workload)))).toEqual([]);
      this.tell(name, `ended in order after ${workload.count} requests`);
      this.requests += workload.count;
    };
  }

  private tell(name: string, what: string): void {
    this.options.report(`seed ${this.options.seed}, side ${this.side}, ${name}: ${what}`);
  }

  private async ours(): Promise<void> {
    const { random } = this;
    const { fills } = this.options;
    const slots = random.pick([1, 2, 4]);
    const gcPercent = random.pick([5, 20, 45]);
    if (!this.filled && fills === 'before ours') await this.fill(slots, gcPercent);
    await this.oursMixed(slots, gcPercent);
    if (!this.filled && fills === 'before the kernel') await this.fill(slots, gcPercent);
  }

  private async oursMixed(slots: number, gcPercent: number): Promise<void> {
    const { random } = this;
    const { images } = this.options;
    const common = { slots, workload: this.workload('mixed', ENGINE_REQUESTS, 1), gcPercent };
    if (random.chance(CRASH_SHARE)) {
      const killAt = this.crashMoment(ENGINE_REQUESTS);
      const killDelayMs = random.chance(0.2) ? random.below(1500) : 0;
      const { acked } = await runEngine(images, this.ids, { ...common, ending: 'kill', killAt, killDelayMs });
      await this.lookAt(this.judge(common.workload, [acked], ENGINE_IN_FLIGHT, 'engine'));
    } else {
      await runEngine(images, this.ids, { ...common, ending: 'close' });
      await this.lookAt(this.judgeWhole(common.workload, 'engine'));
    }
  }

  /** Brings the log near the end of its segment, and segments to their second life, before what comes. */
  private async fill(slots: number, gcPercent: number): Promise<void> {
    const workload = this.workload('fill', FILL_MAX, 1);
    // More than all open ksets take at the end of the fill, and less than half of a side's requests do.
    const stopBeforeSegmentEnd = this.random.between(24, 32) * 1024;
    const { images } = this.options;
    const { acked, report } = await runEngine(images, this.ids, {
      slots,
      workload,
      gcPercent,
      stopBeforeSegmentEnd,
      ending: this.random.pick(['close', 'drain']), // a nearly full cache, or one with room
    });
    expect(acked, 'the log is to come near the end of its segment').toBeLessThan(FILL_MAX);
    expect(report!.segmentsFreed).toBeGreaterThan(0);
    this.ids = afterAll(this.ids, firstRequests(workload, acked));
    this.requests += acked;
    this.filled = true;
    this.mustLeave = keyHeadSegment(report!.statusLine);
  }

  private async kernel(): Promise<void> {
    const { random } = this;
    const { images, dataCrc, first } = this.options;
    const isNew = first === 'kernel' && this.side === 1;
    const workload = this.workload('mixed', KERNEL_REQUESTS, KERNEL_THREADS);
    const crashAt = random.chance(CRASH_SHARE) ? this.crashMoment(KERNEL_REQUESTS) : 0;
    const predicted = isNew ? undefined : await predictedStatus(images);
    const mayHold = predicted === undefined || segmentsUsed(predicted) <= HELD_MAX_SEGMENTS_USED;
    const heldMs = random.chance(0.5) && mayHold ? random.between(500, 3000) : undefined;
    const guest = await runGuest({
      kernel: this.options.kernel,
      ...images,
      crashes: crashAt > 0,
      seconds: GUEST_SECONDS,
      files: { list: encodeRequests([...requestsOf(workload)]), versions: bytesOfIds(this.ids) },
      script: [
        heldMs === undefined ? `attach ${dataCrc}` : `attach_held ${dataCrc} ${heldMs}`,
        isNew && random.chance(0.5) ? 'dmsetup message pc 0 gc_percent 20' : '',
        isNew || random.chance(0.5) ? '' : '/tmp/x/replay check /dev/mapper/pc /tmp/x/versions',
        `/tmp/x/replay run /dev/mapper/pc /tmp/x/list /tmp/x/versions /tmp/x/acks ${crashAt}`,
        'hash_device',
        'detach',
      ].join('\n'),
    });
    if (predicted !== undefined) expectStatus(statusLines(guest)[0], predicted, heldMs !== undefined);
    for (const line of printed(guest, 'replay'))
      expect(line).toMatch(/^\d+ (requests|sectors checked), 0 wrong sectors$/);
    if (crashAt > 0) {
      const acked = decodeAcks(guest.files.get('acks'), KERNEL_THREADS);
      await this.lookAt(this.judge(workload, acked, 1, 'kernel'));
    } else {
      const sha256 = await this.lookAt(this.judgeWhole(workload, 'kernel'));
      expect(printed(guest, 'sha256')).toEqual([`${sha256}  -`]);
    }
  }
}

/** Sectors of a chain's device: not a whole number of subtrees, and not the same for all seeds. */
export function chainSectors(seed: number): number {
  return (12 * SUBTREE_BYTES) / 512 - (seed % 16);
}
