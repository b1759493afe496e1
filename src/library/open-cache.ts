/**
 * A running cache for programs: opened by path, driven on the event loop, closed in order. Requests are plain objects;
 * those of one call go through the engine as one group and share one fence.
 */
import { performance } from 'node:perf_hooks';
import { openBacking, type BackingFile } from '../engine/device/backing-file.js';
import { sameDevice } from '../engine/device/lock.js';
import { bestCrc32c } from '../engine/device/native.js';
import { openPmem } from '../engine/device/open.js';
import type { Durability, Pmem } from '../engine/device/pmem.js';
import {
  Cache,
  CacheDriver,
  Op,
  PcacheError,
  RequestFlag,
  RequestGroup,
  RequestState,
  type CacheStatus,
  type CloseReport,
} from '../engine/index.js';
import type { CacheMode } from '../engine/media/codecs.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import { judgeCache, lossText } from '../fsck/gate.js';

/** What {@link openCache} opens. */
export interface OpenCacheOptions {
  /** Cache device or image file. It is locked against other writers and readers. */
  readonly cachePath: string;
  /** Backing device or file of the cache. It is locked too. */
  readonly backingPath: string;
  /**
   * Check the CRC of cached data on every read; the cache must have `data_crc`. A read of damaged data fails with
   * `BAD_MEDIA`. Default false.
   */
  readonly verifyReads?: boolean;
  /**
   * Open a cache although the check of its metadata and log found that dirty data may be lost or old. Default false:
   * such a cache is refused with `BAD_MEDIA`.
   */
  readonly acceptLoss?: boolean;
}

/** A read of `target.length` bytes into `target`. */
export interface ReadRequest {
  readonly op: 'read';
  /** Offset on the logical device in bytes, a multiple of 512. */
  readonly offsetBytes: number;
  /** Is filled; its length is a multiple of 512. */
  readonly target: Uint8Array;
}

/** A write of `source`. */
export interface WriteRequest {
  readonly op: 'write';
  /** Offset on the logical device in bytes, a multiple of 512. */
  readonly offsetBytes: number;
  /** Its length is a multiple of 512. It is copied before the call returns. */
  readonly source: Uint8Array;
  /** Forced unit access: the write is durable in the cache when it is acknowledged. Default false. */
  readonly fua?: boolean;
  /** Everything acknowledged earlier becomes durable first. Default false. */
  readonly preflush?: boolean;
}

/** Makes every acknowledged write durable. */
export interface FlushRequest {
  readonly op: 'flush';
}

export type CacheRequest = ReadRequest | WriteRequest | FlushRequest;

/** How one request ended. */
export interface RequestOutcome {
  /** Why it failed; undefined when it succeeded. */
  readonly error: PcacheError | undefined;
  /** Of a read: bytes that came from the backing device; 0 for a hit. */
  readonly missBytes: number;
}

/** A cache that {@link openCache} opened. Close it with {@link OpenCache.close} or `await using`. */
export class OpenCache implements AsyncDisposable {
  private closing: Promise<CloseReport> | undefined;

  /** @internal Use {@link openCache}. */
  constructor(
    private readonly pmem: Pmem,
    private readonly backing: BackingFile,
    private readonly cache: Cache,
    private readonly driver: CacheDriver,
  ) {}

  /** Size of the logical device in bytes. */
  get sizeBytes(): number {
    return this.cache.sizeBytes;
  }

  get mode(): CacheMode {
    return this.cache.mode;
  }

  /** What the durability of an acknowledged flush rests on. */
  get durability(): Durability {
    return this.pmem.durability;
  }

  /**
   * Reads `lengthBytes` from `offsetBytes` on, both in bytes and multiples of 512.
   * @throws {@link PcacheError} MISALIGNED, OUT_OF_RANGE, IO; BAD_MEDIA with `verifyReads`; CLOSED
   */
  async read(offsetBytes: number, lengthBytes: number): Promise<Uint8Array> {
    const target = new Uint8Array(lengthBytes);
    await this.one({ op: 'read', offsetBytes, target });
    return target;
  }

  /**
   * Writes `source` at `offsetBytes`; offset and length are multiples of 512.
   * @throws {@link PcacheError} MISALIGNED, OUT_OF_RANGE, IO; CACHE_FULL when write-back cannot make room; CLOSED
   */
  async write(offsetBytes: number, source: Uint8Array, options: { readonly fua?: boolean } = {}): Promise<void> {
    await this.one({ op: 'write', offsetBytes, source, fua: options.fua ?? false });
  }

  /**
   * Makes every acknowledged write durable in the cache.
   * @throws {@link PcacheError} IO, CACHE_FULL, CLOSED
   */
  async flush(): Promise<void> {
    await this.one({ op: 'flush' });
  }

  /**
   * Runs requests as one group, in order: a read sees the writes before it. They share one fence, so that many small
   * requests cost much less than a call for each.
   * @returns an outcome for each request, in the same order. A failed request does not keep the others from running.
   * @throws {@link PcacheError} CLOSED
   */
  async run(requests: readonly CacheRequest[]): Promise<RequestOutcome[]> {
    if (this.closing !== undefined) throw new PcacheError('CLOSED', `${this.pmem.path}: the cache is closed`);
    if (requests.length === 0) return [];
    const arena = this.pmem.registerArena(
      new Uint8Array(requests.reduce((sum, one) => sum + payloadOf(one).length, 0)),
    );
    const group = new RequestGroup(requests.length, arena);
    let at = 0;
    for (const request of requests) {
      const payload = payloadOf(request);
      if (request.op === 'write') arena.memory.set(payload, at);
      group.add(Op[request.op], request.op === 'flush' ? 0 : request.offsetBytes, payload.length, at, flagsOf(request));
      at += payload.length;
    }
    try {
      await this.submit(group);
      return requests.map((request, n) => {
        if (request.op === 'read' && group.state[n] === RequestState.done) {
          const from = group.arenaOffsetBytes[n];
          request.target.set(arena.memory.subarray(from, from + request.target.length));
        }
        return { error: group.errors[n], missBytes: group.missBytes[n] };
      });
    } finally {
      this.pmem.unregisterArena(arena);
    }
  }

  /** State of the cache now. */
  status(): CacheStatus {
    return this.cache.status();
  }

  /**
   * Sets the percentage of segments in use at which garbage collection starts, durably.
   * @param gcPercent 0 to 90
   * @throws {@link PcacheError} USAGE
   */
  setGcPercent(gcPercent: number): void {
    this.cache.setGcPercent(gcPercent);
  }

  /**
   * Writes all dirty data to the backing device and flushes it.
   * @throws {@link PcacheError} what keeps write-back from succeeding
   */
  async drain(): Promise<void> {
    await this.driver.drain();
  }

  /**
   * Ends the requests that were taken, writes open ksets to the log and closes both devices. Dirty data stays in the
   * cache; the next open goes on with it. Further calls return the same result.
   * @throws {@link PcacheError} IO when the cache device failed; CACHE_FULL when the last writes found no room in the log
   */
  close(): Promise<CloseReport> {
    this.closing ??= this.driver.close().finally(() => {
      this.pmem.close();
      this.backing.close();
    });
    return this.closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private async one(request: CacheRequest): Promise<void> {
    const [{ error }] = await this.run([request]);
    if (error !== undefined) throw error;
  }

  private submit(group: RequestGroup): Promise<void> {
    return new Promise((resolve) => {
      group.onRequestDone = () => {
        if (group.pending === 0) resolve();
      };
      if (this.cache.submit(group) === 0) resolve();
      this.driver.kick();
    });
  }
}

const NOTHING = new Uint8Array(0);

function payloadOf(request: CacheRequest): Uint8Array {
  if (request.op === 'flush') return NOTHING;
  return request.op === 'read' ? request.target : request.source;
}

function flagsOf(request: CacheRequest): number {
  if (request.op !== 'write') return 0;
  return (request.fua ? RequestFlag.fua : 0) | (request.preflush ? RequestFlag.preflush : 0);
}

/**
 * Opens a cache for reading and writing: locks both devices, checks metadata and log, and recovers the index.
 * Background work (write-back, garbage collection) runs on the event loop until the cache is closed.
 * @throws {@link PcacheError} NOT_FOUND, NO_ACCESS, BUSY, NOT_A_DEVICE, NOT_PCACHE, BAD_MEDIA, UNSUPPORTED, IO;
 *   NATIVE_MISSING without the native helper
 */
export function openCache(options: OpenCacheOptions): Promise<OpenCache> {
  return new Promise((resolve) => resolve(open(options)));
}

function open({ cachePath, backingPath, verifyReads = false, acceptLoss = false }: OpenCacheOptions): OpenCache {
  if (sameDevice(cachePath, backingPath)) {
    throw new PcacheError('USAGE', `${backingPath}: is the cache device itself; give the backing device`);
  }
  const backing = openBacking(backingPath, { readOnly: false });
  let pmem: Pmem | undefined;
  try {
    pmem = openPmem(cachePath);
    const crc = bestCrc32c();
    if (!acceptLoss) refuseLosses(pmem, backing.sizeBytes);
    const clock = { nowMs: () => performance.now() };
    const cache = new Cache({ pmem, backing, clock, crc, verifyReads });
    return new OpenCache(pmem, backing, cache, new CacheDriver(cache, clock, () => backing.giveWay()));
  } catch (error) {
    pmem?.close();
    backing.close();
    throw error;
  }
}

function refuseLosses(pmem: Pmem, backingBytes: number): void {
  const { losses } = judgeCache(pmem, { geometry: KERNEL_GEOMETRY, backingBytes, crc: bestCrc32c() });
  if (losses.length > 0) throw new PcacheError('BAD_MEDIA', lossText(pmem.path, losses));
}
