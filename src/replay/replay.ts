/**
 * A replay from beginning to end: looks at the trace, opens the devices, runs, verifies, closes, and says
 * what happened. Whatever happens the devices are closed in order, so that the cache is consistent.
 */
import { performance } from 'node:perf_hooks';
import { Cache, CacheDriver, PcacheError, type CacheStatus, type Clock, type CloseReport } from '../engine/index.js';
import { bestCrc32c } from '../engine/device/native.js';
import type { CacheMode } from '../engine/media/codecs.js';
import { MIB } from '../engine/media/geometry.js';
import {
  scanTrace,
  withReadableTrace,
  type TraceAction,
  type TraceBatch,
  type TraceFootprint,
  type TraceFormat,
  type TableDefinition,
  type TraceOptions,
} from '../trace/index.js';
import { makeEphemeralDevices, openUserDevices, type ReplayDevices } from './replay-devices.js';
import { latencyHistogram } from './latency.js';
import { LockstepRunner } from './lockstep.js';
import { OrderedBacking } from './ordered-backing.js';
import { describeResult, describeTrace, type ReplayParts, type ReplayResult } from './replay-result.js';
import { Runner } from './runner.js';
import { FileTraceSource, loopBatches } from './trace-source.js';
import { Verifier } from './verifier.js';
import { VirtualClock } from './virtual-clock.js';

const COMPARE_BYTES = 4 * MIB;

/** Which requests are made. */
export interface TraceChoice {
  readonly trace: string;
  readonly action: TraceAction;
  /** `major,minor`, where a trace has several devices. */
  readonly traceDevice: string | undefined;
  /** What the trace is; recognised by its content when left out. */
  readonly format?: TraceFormat | undefined;
  /** The columns of a table, instead of a format. */
  readonly table?: TableDefinition | undefined;
  /** So many malformed records are passed over; when left out, as many as the readers think fit. */
  readonly malformedLimit?: number | undefined;
  /** Passes over the trace, one after another. */
  readonly loops: number;
  /** Stop after that many requests. */
  readonly limit: number;
  readonly stdin: NodeJS.ReadableStream;
  /** As `TraceOptions.onPipe`. */
  readonly onPipe?: TraceOptions['onPipe'];
}

export interface ReplayOptions extends TraceChoice {
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
  /** In time of the trace, background work keeping up: see `lockstep.ts`. */
  readonly lockstep: boolean;
  readonly verify: boolean;
  /** Write over a backing device that holds something known. */
  readonly force: boolean;
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

/** A trace that has been looked at. */
export interface ScannedTrace {
  /** What `openTrace` takes. */
  readonly path: string;
  readonly options: TraceOptions;
  readonly footprint: TraceFootprint;
  /** Requests to expect, discards not counted. */
  readonly expected: number;
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
  return withScannedTrace(options, observer, async (trace) => {
    const devices = openDevices(options, trace.footprint);
    try {
      const session = new Session(options, observer, devices, trace);
      stopRunner = () => session.stop();
      if (interrupted) session.stop();
      return await session.run();
    } finally {
      devices.pmem.close();
      devices.backing.close();
    }
  });
}

/** How the readers are to read it. */
export function traceOptionsOf({ action, traceDevice, format, table, malformedLimit }: TraceChoice): TraceOptions {
  return {
    action,
    ...(traceDevice === undefined ? {} : { device: traceDevice }),
    ...(format === undefined ? {} : { format }),
    ...(table === undefined ? {} : { table }),
    ...(malformedLimit === undefined ? {} : { malformedLimit }),
  };
}

/** Looks through the trace, then calls `body` with what was found. */
export function withScannedTrace<T>(
  choice: TraceChoice,
  observer: ReplayObserver,
  body: (trace: ScannedTrace) => Promise<T>,
): Promise<T> {
  return withReadableTrace(choice.trace, choice, async (path, name) => {
    const options: TraceOptions = { ...traceOptionsOf(choice), ...(name === undefined ? {} : { name }) };
    observer.begins('scan', undefined);
    const footprint = await scanTrace(path, options);
    for (const warning of footprint.warnings) observer.warn(warning);
    const { selected, discards } = footprint.counts;
    return body({ path, options, footprint, expected: Math.min((selected - discards) * choice.loops, choice.limit) });
  });
}

/** @throws PcacheError USAGE for options that contradict one another. */
function checkDeviceOptions(options: ReplayOptions): void {
  const own = options.cachePath !== undefined;
  const refuse = (message: string) => {
    throw new PcacheError('USAGE', message);
  };
  if (own !== (options.backingPath !== undefined)) refuse('--cache and --backing must be given together');
  if (own && options.cacheBytes !== undefined)
    refuse('--cache-size cannot be used with --cache, which has a size already');
  if (own && options.dataCrc) refuse('--data-crc cannot be used with --cache; it is chosen by "pcache format"');
  if (own && options.mode) refuse('--mode cannot be used with --cache; it is chosen by "pcache format"');
  if (!own && options.verifyReads && !options.dataCrc) refuse('--verify-reads needs --data-crc');
  if (options.lockstep && options.speed !== Infinity) refuse('--lockstep cannot be used with --speed');
  if (!own && options.force) refuse('--force needs --cache and --backing; temporary devices are always empty');
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
      `${backingPath}: ${devices.backing.sizeBytes} bytes, but the trace reaches byte ${footprint.endBytes}; use a backing device of at least that size`,
    );
  }
  return devices;
}

/** A cache at work, however it is driven. */
interface Drive {
  readonly isStopped: boolean;
  stop(): void;
  run(batches: AsyncIterable<TraceBatch>): Promise<void>;
  /** Writes everything back. */
  drain(): Promise<void>;
  close(): Promise<CloseReport>;
  /** What a result says of it; to be asked once the trace is over, before draining. */
  describe(): Pick<ReplayParts, 'run' | 'latency' | 'latencyHistogram' | 'maxLagNs' | 'timeline'>;
}

class Session {
  private readonly cache: Cache;
  private readonly drive: Drive;
  private readonly verifier: Verifier | undefined;
  private readonly openedStatus: CacheStatus;

  constructor(
    private readonly options: ReplayOptions,
    private readonly observer: ReplayObserver,
    private readonly devices: ReplayDevices,
    private readonly trace: ScannedTrace,
  ) {
    this.verifier = options.verify ? new Verifier(devices.ephemeral) : undefined;
    const clock = options.lockstep ? new VirtualClock() : { nowMs: () => performance.now() };
    const backing = options.lockstep ? new OrderedBacking(devices.backing) : devices.backing;
    const { pmem } = devices;
    this.cache = new Cache({ pmem, backing, clock, crc: bestCrc32c(), verifyReads: options.verifyReads });
    if (options.gcPercent !== undefined) this.cache.setGcPercent(options.gcPercent);
    this.openedStatus = this.cache.status();
    if (clock instanceof VirtualClock && backing instanceof OrderedBacking) {
      this.drive = this.driveInLockstep(clock, backing);
    } else this.drive = this.driveFreely(clock);
  }

  private driveInLockstep(clock: VirtualClock, backing: OrderedBacking): Drive {
    const { cache, devices, options, verifier, observer } = this;
    const onProgress = (requests: number) => observer.progress(requests);
    return new LockstepRunner({
      cache,
      pmem: devices.pmem,
      backing,
      clock,
      limit: options.limit,
      verifier,
      onProgress,
    });
  }

  private driveFreely(clock: Clock): Drive {
    const { options, observer } = this;
    const driver = new CacheDriver(this.cache, clock);
    const runner = new Runner({
      driver,
      pmem: this.devices.pmem,
      speed: options.speed,
      limit: options.limit,
      verifier: this.verifier,
      nowMs: () => clock.nowMs(),
      onProgress: (requests) => observer.progress(requests),
    });
    return {
      get isStopped() {
        return runner.isStopped;
      },
      stop: () => runner.stop(),
      run: (batches) => runner.run(batches),
      drain: () => driver.drain(),
      close: () => driver.close(),
      describe: () => {
        const { readHit, readMiss, write, flush } = runner.latency;
        return {
          run: runner.totals,
          latency: {
            readHit: readHit.summary(),
            readMiss: readMiss.summary(),
            write: write.summary(),
            flush: flush.summary(),
          },
          latencyHistogram: latencyHistogram(runner.latency),
          maxLagNs: options.speed === Infinity ? null : Math.round(runner.maxLagMs * 1e6),
          timeline: runner.finishTimeline(),
        };
      },
    };
  }

  stop(): void {
    this.drive.stop();
  }

  async run(): Promise<ReplayResult> {
    const { drive, observer, cache, trace, options } = this;
    let closed: CloseReport | undefined;
    let described: ReturnType<Drive['describe']>;
    const startedMs = performance.now();
    let elapsedMs = 0;
    try {
      observer.begins('replay', trace.expected);
      const source = new FileTraceSource(trace.path, trace.options, trace.footprint);
      await drive.run(loopBatches(source, options.loops, trace.footprint.durationNs));
      elapsedMs = performance.now() - startedMs;
      described = drive.describe();
      if (this.verifier && !drive.isStopped) await this.compareBacking(this.verifier);
    } finally {
      // Also after a failure: what is in open ksets goes to the log, and the device is left consistent.
      if (!cache.failure) closed = await drive.close();
    }
    return describeResult({
      simulated: false,
      lockstep: options.lockstep,
      trace: describeTrace(options.trace, options.action, trace.footprint),
      devices: describeDevices(this.devices),
      ...described,
      latencyWithoutCache: null,
      model: null,
      openedStatus: this.openedStatus,
      status: cache.status(),
      closed,
      elapsedMs,
      verify: this.verifier?.result() ?? null,
      interrupted: drive.isStopped,
    });
  }

  /** Writes everything back, then looks at the whole backing device. */
  private async compareBacking(verifier: Verifier): Promise<void> {
    const { backing, ephemeral } = this.devices;
    this.observer.begins('drain', undefined);
    await this.drive.drain();
    const bytes = new Uint8Array(COMPARE_BYTES);
    const words = new Uint32Array(bytes.buffer);
    const offsets = ephemeral ? allOffsets(backing.sizeBytes) : verifier.touchedOffsets();
    this.observer.begins('compare', undefined);
    for (const offset of offsets) {
      if (this.drive.isStopped) return;
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
