/** Traces: read as a stream of requests, replayed through a cache, simulated without devices. */
import { Readable } from 'node:stream';
import type { CacheMode } from '../engine/media/codecs.js';
import { replay, type ReplayObserver, type TraceChoice } from '../replay/replay.js';
import type { ReplayResult } from '../replay/replay-result.js';
import { makeModel, runSimulation, type BackingPreset } from '../simulate/index.js';
import { openTrace as openTraceReader, type TraceAction, type TraceFormat, type TraceReader } from '../trace/index.js';

/** Which requests of a trace are wanted. */
export interface TraceSelection {
  /** `queue` (default): what users of the device asked for; `issue`: what the driver got; `complete`: what it finished. */
  readonly action?: TraceAction;
  /** Device whose requests are wanted, as the trace names it; needed when several devices have some. */
  readonly device?: string;
  /** Format of the trace; recognised by its content when left out. */
  readonly format?: TraceFormat;
  /** Number of malformed records that are passed over; one more is an error. Default 100. */
  readonly malformedLimit?: number;
}

/**
 * Opens a trace: a file, or the base name of a blktrace recording with a file for each processor. Any format of
 * docs/traces.md. Iterate over `batches()`, which closes the trace at its end, or call `close()`.
 * @throws {@link PcacheError} BAD_TRACE, USAGE, NOT_FOUND, NO_ACCESS, NOT_A_DEVICE, IO
 */
export function openTrace(tracePath: string, selection: TraceSelection = {}): Promise<TraceReader> {
  return openTraceReader(tracePath, { ...selection, action: selection.action ?? 'queue' });
}

/** What a replay and a simulation have in common. */
interface RunOptions extends TraceSelection {
  /** Trace file, or the base name of a blktrace recording. */
  readonly tracePath: string;
  /** Number of passes over the trace. Default 1. */
  readonly loops?: number;
  /** Stop after this number of requests. */
  readonly requestsMax?: number;
  /** Size of the cache in bytes. Default: an eighth of the backing device, 512 MiB to 4 GiB. */
  readonly cacheBytes?: number;
  /** Default false. */
  readonly dataCrc?: boolean;
  /** Percentage of segments in use at which garbage collection starts, 0 to 90. Default 70. */
  readonly gcPercent?: number;
  /** Default `writeback`. */
  readonly mode?: CacheMode;
  /** Called with the number of requests done in the replay. */
  readonly onProgress?: (requestsDone: number) => void;
  /** Called with one line for each oddity of the trace. */
  readonly onWarning?: (message: string) => void;
  /** Ends the run early and in order; the result says `interrupted`. */
  readonly signal?: AbortSignal;
}

/** What {@link replayTrace} does. */
export interface ReplayTraceOptions extends RunOptions {
  /**
   * Formatted cache device to use, with `backingPath`, which is overwritten. Without both, temporary devices are used
   * and removed afterwards.
   */
  readonly cachePath?: string;
  readonly backingPath?: string;
  /** Overwrite a backing device that holds recognised data. Default false. */
  readonly force?: boolean;
  /** Multiple of the recorded speed. Default: as fast as possible. */
  readonly speed?: number;
  /** Deterministic replay: virtual time, background work always caught up. Default false. */
  readonly lockstep?: boolean;
  /** Stamp every sector, check every read, and compare the backing device at the end. Default false. */
  readonly verify?: boolean;
  /** Check cached data against its CRC on every read; needs `data_crc`. Default false. */
  readonly verifyReads?: boolean;
}

/** What {@link simulateTrace} does. */
export interface SimulateTraceOptions extends RunOptions {
  /** Size of the simulated backing device in bytes. With it the trace is read only once. Default: what the trace needs. */
  readonly backingBytes?: number;
  /** Expected latencies with this backing device; without it the simulation has no notion of time. */
  readonly model?: BackingPreset;
  /** With `model`: multiple of the recorded speed. Default 1. */
  readonly speed?: number;
}

/**
 * Replays a trace through a cache on real devices and measures it.
 * @throws {@link PcacheError} BAD_TRACE, USAGE, and what opening the devices throws
 */
export function replayTrace(options: ReplayTraceOptions): Promise<ReplayResult> {
  return replay(
    {
      ...traceChoice(options),
      ...cacheChoice(options),
      cachePath: options.cachePath,
      backingPath: options.backingPath,
      verifyReads: options.verifyReads ?? false,
      speed: options.speed ?? Infinity,
      lockstep: options.lockstep ?? false,
      verify: options.verify ?? false,
      force: options.force ?? false,
    },
    observerOf(options),
  );
}

/**
 * Simulates a trace: the engine without devices and payload, in bounded memory (docs/simulation.md).
 * @throws {@link PcacheError} BAD_TRACE, USAGE, TOO_SMALL
 */
export function simulateTrace(options: SimulateTraceOptions): Promise<ReplayResult> {
  const { model, backingBytes, speed = Infinity } = options;
  return runSimulation(
    {
      ...traceChoice(options),
      ...cacheChoice(options),
      backingBytes,
      model: model === undefined ? undefined : makeModel(model, {}, {}),
      speed,
    },
    observerOf(options),
  );
}

function traceChoice(options: RunOptions): TraceChoice {
  return {
    trace: options.tracePath,
    action: options.action ?? 'queue',
    traceDevice: options.device,
    format: options.format,
    malformedLimit: options.malformedLimit,
    loops: options.loops ?? 1,
    limit: options.requestsMax ?? Infinity,
    stdin: Readable.from([]), // a library reads files only
  };
}

function cacheChoice({ cacheBytes, dataCrc = false, gcPercent, mode }: RunOptions) {
  return { cacheBytes, dataCrc, gcPercent, mode };
}

function observerOf({ onProgress, onWarning, signal }: RunOptions): ReplayObserver {
  let isReplaying = false;
  return {
    begins: (phase) => {
      isReplaying = phase === 'replay';
    },
    progress: (done) => {
      if (isReplaying) onProgress?.(done);
    },
    warn: (message) => onWarning?.(message),
    onInterrupt: (stop) => {
      if (signal?.aborted) stop();
      else signal?.addEventListener('abort', stop, { once: true });
    },
  };
}
