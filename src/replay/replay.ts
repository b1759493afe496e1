/**
 * A replay from beginning to end: looks at the trace, opens the devices, runs, verifies, closes, and says
 * what happened. Whatever happens the devices are closed in order, so that the cache is consistent.
 */
import { createReadStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cache, CacheDriver, PcacheError, type CacheStatus, type CloseReport } from '../engine/index.js';
import { bestCrc32c } from '../engine/device/native.js';
import type { CacheMode } from '../engine/media/codecs.js';
import { MIB } from '../engine/media/geometry.js';
import {
  isReadableOnce,
  openTrace,
  scanTrace,
  spoolStdin,
  STDIN_PATH,
  type TraceAction,
  type TraceFootprint,
  type TraceReader,
} from '../trace/index.js';
import { makeEphemeralDevices, openUserDevices, type ReplayDevices } from './devices.js';
import { describeResult, describeTrace, type ReplayResult } from './result.js';
import { Runner } from './runner.js';
import { Verifier } from './verifier.js';

const COMPARE_BYTES = 4 * MIB;

export interface ReplayOptions {
  readonly trace: string;
  readonly action: TraceAction;
  /** `major,minor`, where a trace has several devices. */
  readonly traceDevice: string | undefined;
  /** Both or neither. */
  readonly cachePath: string | undefined;
  readonly backingPath: string | undefined;
  /** Of ephemeral devices. */
  readonly cacheBytes: number | undefined;
  readonly dataCrc: boolean;
  readonly gcPercent: number | undefined;
  readonly mode: CacheMode | undefined;
  /** Check cached data against its CRC at each read. */
  readonly verifyReads: boolean;
  readonly speed: number;
  readonly limit: number;
  readonly verify: boolean;
  /** Write over a backing device that holds something known. */
  readonly force: boolean;
  readonly stdin: NodeJS.ReadableStream;
}

/** What a replay tells while it runs. */
export interface ReplayObserver {
  /** @param total requests to expect, discards not counted. */
  begins(phase: 'scan' | 'replay' | 'drain' | 'compare', total: number | undefined): void;
  progress(done: number): void;
  /** Something is odd, and it goes on. */
  warn(message: string): void;
  /** Asked for; `stop` ends the replay early and in order. */
  onInterrupt(stop: () => void): void;
}

/** Replays a trace. Throws a PcacheError for what keeps it from being done; a mismatch is a result. */
export async function replay(options: ReplayOptions, observer: ReplayObserver): Promise<ReplayResult> {
  checkDeviceOptions(options);
  let interrupted = false;
  let stopRunner = () => {};
  observer.onInterrupt(() => {
    interrupted = true;
    stopRunner();
  });
  return withSpooledTrace(options, async (tracePath) => {
    const traceOptions = {
      action: options.action,
      ...(options.traceDevice === undefined ? {} : { device: options.traceDevice }),
    };
    observer.begins('scan', undefined);
    const footprint = await scanTrace(tracePath, traceOptions);
    refuseNothing(footprint, options.trace);
    for (const warning of footprint.warnings) observer.warn(warning);
    const expected = Math.min(footprint.counts.selected - footprint.counts.discards, options.limit);
    const devices = openDevices(options, footprint);
    try {
      const reader = await openTrace(tracePath, traceOptions);
      const session = new Session(options, observer, devices, footprint, reader);
      stopRunner = () => session.stop();
      if (interrupted) session.stop();
      return await session.run(expected);
    } finally {
      devices.pmem.close();
      devices.backing.close();
    }
  });
}

/** @throws PcacheError USAGE for options that contradict one another. */
function checkDeviceOptions(options: ReplayOptions): void {
  const own = options.cachePath !== undefined;
  const refuse = (message: string) => {
    throw new PcacheError('USAGE', message);
  };
  if (own !== (options.backingPath !== undefined)) refuse('--cache and --backing go together: give both or neither');
  if (own && options.cacheBytes !== undefined) refuse('--cache-size is for an ephemeral cache; --cache has its size');
  if (own && options.dataCrc) refuse('--data-crc is for an ephemeral cache; --cache was formatted with or without it');
  if (own && options.mode) refuse('--mode is for an ephemeral cache; --cache was formatted with one');
  if (!own && options.verifyReads && !options.dataCrc) refuse('--verify-reads needs CRCs; give --data-crc as well');
  if (!own && options.force) refuse('--force is for a --backing that holds something; ephemeral devices hold nothing');
}

/** The trace is read twice; what can be read only once is copied first. */
async function withSpooledTrace<T>(options: ReplayOptions, body: (path: string) => Promise<T>): Promise<T> {
  if (!(await isReadableOnce(options.trace))) return body(options.trace);
  const stream = options.trace === STDIN_PATH ? options.stdin : createReadStream(options.trace);
  const folder = mkdtempSync(join(tmpdir(), 'pcache-trace-'));
  try {
    const path = join(folder, 'trace');
    await spoolStdin(stream, path);
    return await body(path);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A trace without a single request of the wanted kind is a mistake in the asking. */
function refuseNothing(footprint: TraceFootprint, trace: string): void {
  if (footprint.counts.selected > 0) return;
  const why = footprint.warnings[0] ?? `${trace}: no request in it`;
  throw new PcacheError('BAD_TRACE', why);
}

function openDevices(options: ReplayOptions, footprint: TraceFootprint): ReplayDevices {
  const { cachePath, backingPath } = options;
  if (cachePath === undefined || backingPath === undefined) {
    return makeEphemeralDevices({ ...options, endBytes: footprint.endBytes });
  }
  const devices = openUserDevices(cachePath, backingPath, options.force);
  if (footprint.endBytes > devices.backing.sizeBytes) {
    devices.pmem.close();
    devices.backing.close();
    throw new PcacheError(
      'TOO_SMALL',
      `${backingPath}: ${devices.backing.sizeBytes} bytes, and the trace reaches to byte ${footprint.endBytes}; give a device of at least that size`,
    );
  }
  return devices;
}

class Session {
  private readonly cache: Cache;
  private readonly driver: CacheDriver;
  private readonly verifier: Verifier | undefined;
  private readonly runner: Runner;
  private readonly openedStatus: CacheStatus;

  constructor(
    private readonly options: ReplayOptions,
    private readonly observer: ReplayObserver,
    private readonly devices: ReplayDevices,
    private readonly footprint: TraceFootprint,
    private readonly reader: TraceReader,
  ) {
    const clock = { nowMs: () => performance.now() };
    const { pmem, backing } = devices;
    this.cache = new Cache({ pmem, backing, clock, crc: bestCrc32c(), verifyReads: options.verifyReads });
    if (options.gcPercent !== undefined) this.cache.setGcPercent(options.gcPercent);
    this.openedStatus = this.cache.status();
    this.driver = new CacheDriver(this.cache, clock);
    this.verifier = options.verify ? new Verifier(devices.ephemeral) : undefined;
    this.runner = new Runner({
      driver: this.driver,
      pmem,
      speed: options.speed,
      limit: options.limit,
      verifier: this.verifier,
      nowMs: clock.nowMs,
      onProgress: (requests) => observer.progress(requests),
    });
  }

  stop(): void {
    this.runner.stop();
  }

  async run(expected: number): Promise<ReplayResult> {
    const { runner, observer, cache } = this;
    let closed: CloseReport | undefined;
    const startedMs = performance.now();
    let elapsedMs = 0;
    try {
      observer.begins('replay', expected);
      await runner.run(this.reader.batches());
      elapsedMs = performance.now() - startedMs;
      if (this.verifier && !runner.isStopped) await this.compareBacking(this.verifier);
    } finally {
      // Also after a failure: what is in open ksets goes to the log, and the device is left consistent.
      if (!cache.failure) closed = await this.driver.close();
    }
    const { devices, footprint, options, openedStatus } = this;
    const { latency } = runner;
    return describeResult({
      simulated: false,
      lockstep: false,
      trace: describeTrace(options.trace, options.action, footprint),
      devices: describeDevices(devices),
      run: runner,
      latency: {
        readHit: latency.readHit.summary(),
        readMiss: latency.readMiss.summary(),
        write: latency.write.summary(),
        flush: latency.flush.summary(),
      },
      latencyWithoutCache: null,
      maxLagNs: options.speed === Infinity ? null : Math.round(runner.maxLagMs * 1e6),
      openedStatus,
      status: cache.status(),
      closed,
      elapsedMs,
      verify: this.verifier?.result() ?? null,
      interrupted: runner.isStopped,
    });
  }

  /** Writes everything back, then looks at the whole backing device. */
  private async compareBacking(verifier: Verifier): Promise<void> {
    const { backing, ephemeral } = this.devices;
    this.observer.begins('drain', undefined);
    await this.driver.drain();
    const bytes = new Uint8Array(COMPARE_BYTES);
    const words = new Uint32Array(bytes.buffer);
    const offsets = ephemeral ? allOffsets(backing.sizeBytes) : verifier.touchedOffsets();
    this.observer.begins('compare', undefined);
    for (const offset of offsets) {
      if (this.runner.isStopped) return;
      const length = Math.min(COMPARE_BYTES, backing.sizeBytes - offset);
      await new Promise<void>((resolve, reject) =>
        backing.read(offset, bytes, 0, length, (error) => (error ? reject(error) : resolve())),
      );
      verifier.checkBacking(offset, length, words);
      this.observer.progress(offset + length);
    }
  }
}

function describeDevices({ pmem, backing, cacheName, backingName }: ReplayDevices) {
  const { durability, sizeBytes: cacheBytes } = pmem;
  return { cache: cacheName, cacheBytes, durability, backing: backingName, backingBytes: backing.sizeBytes };
}

function* allOffsets(sizeBytes: number): Generator<number> {
  for (let offset = 0; offset < sizeBytes; offset += COMPARE_BYTES) yield offset;
}
