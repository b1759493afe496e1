/** How a cache that the kernel has attached stands: plain data, made when asked for. */
import { readText } from '../engine/device/holders.js';
import { isSamePosition, type Position } from '../engine/media/codecs.js';
import { SECTOR_BYTES } from '../engine/media/geometry.js';
import { findKernelDevice, readState, type KernelDevice, type TargetState } from './device-mapper.js';
import { DirtyLogReader } from './dirty-log.js';

/**
 * Write-back that has nothing to do looks again after 5 s. It stands still when dirty_tail does not move for longer than
 * that by far, and nothing is written to the backing device meanwhile: one kset of large writes may take a while.
 */
const STANDS_STILL_MS = 15_000;

/** The block layer's counters of a device, since the device was made. */
export interface BlockCounters {
  readonly readRequests: number;
  readonly readBytes: number;
  /** Time that requests took, summed up. */
  readonly readMs: number;
  readonly writeRequests: number;
  readonly writeBytes: number;
  readonly writeMs: number;
  readonly flushRequests: number;
  readonly flushMs: number;
  /** Requests that have not ended. */
  readonly inFlight: number;
}

export interface KernelStatus {
  /** Its device-mapper name. */
  readonly name: string;
  /** Path of the block device. */
  readonly device: string;
  readonly path: string;
  readonly backing: string;
  readonly sizeBytes: number;
  readonly mode: string;
  readonly dataCrc: boolean;
  /** The kernel's status line. */
  readonly line: string;
  readonly segments: number;
  readonly segmentsUsed: number;
  readonly gcPercent: number;
  readonly keyHead: Position;
  readonly dirtyTail: Position;
  readonly keyTail: Position;
  /** In the log and not on the backing device, older versions included; keys in open ksets are not in the log yet. */
  readonly dirtyKeys: number;
  readonly dirtyBytes: number;
  /** There may be more: the log changed while it was read, five times, or a kset of it is damaged. */
  readonly dirtyIsLowerBound: boolean;
  /** Time since the document before; null in the first. */
  readonly intervalMs: number | null;
  /** Bytes of the log that were written back in this interval; null where that is not known. */
  readonly writtenBackBytes: number | null;
  /** How long dirty_tail has not moved although data is dirty, as far as that was seen. */
  readonly dirtyTailStillMs: number;
  /** Write-back has stopped: data is dirty, and nothing was written to the backing device for 15 seconds. */
  readonly writebackStandsStill: boolean;
  /** Of the block device and of the backing device, all its users included; null where the kernel does not count. */
  readonly requests: BlockCounters | null;
  readonly backingRequests: BlockCounters | null;
}

/** Counters from the text of /sys/block/DEVICE/stat; undefined where it has too few fields. */
export function parseBlockStat(text: string): BlockCounters | undefined {
  const fields = text.trim().split(/\s+/).map(Number);
  if (fields.length < 11 || fields.some(Number.isNaN)) return undefined;
  const [readRequests, , readSectors, readMs, writeRequests, , writeSectors, writeMs, inFlight] = fields;
  return {
    readRequests,
    readBytes: readSectors * SECTOR_BYTES,
    readMs,
    writeRequests,
    writeBytes: writeSectors * SECTOR_BYTES,
    writeMs,
    flushRequests: fields[15] ?? 0,
    flushMs: fields[16] ?? 0,
    inFlight,
  };
}

function countersOf(directory: string): BlockCounters | null {
  const text = readText(`${directory}/stat`);
  return (text === undefined ? undefined : parseBlockStat(text)) ?? null;
}

interface Standing {
  readonly dirtyTail: Position;
  readonly backingWrites: number;
  readonly sinceMs: number;
}

export class KernelStatusReporter {
  private sampledMs: number | undefined;
  private standing: Standing | undefined;

  /** @param nowMs a monotonic clock */
  constructor(
    readonly device: KernelDevice,
    readonly log: DirtyLogReader,
    readonly nowMs: () => number,
  ) {}

  /** @throws PcacheError for a device that is not of the kernel's target, or whose cache device cannot be read */
  static async open(name: string, deviceFolder: string, native: boolean): Promise<KernelStatusReporter> {
    const device = await findKernelDevice(name, deviceFolder);
    return new KernelStatusReporter(device, DirtyLogReader.open(device.cachePath, native), () => performance.now());
  }

  close(): void {
    this.log.close();
  }

  /** @throws PcacheError when the device is gone, or the cache device cannot be read */
  async status(): Promise<KernelStatus> {
    const { device, log } = this;
    const { state, ...dirty } = await log.read(() => readState(device));
    const nowMs = this.nowMs();
    const intervalMs = this.sampledMs === undefined ? null : Math.round(nowMs - this.sampledMs);
    this.sampledMs = nowMs;
    const { backingNumber } = device;
    const backingRequests = backingNumber === undefined ? null : countersOf(`/sys/dev/block/${backingNumber}`);
    const dirtyTailStillMs = this.stillMs(state, backingRequests, nowMs);
    return {
      name: device.name,
      device: device.path,
      path: device.cachePath,
      backing: device.backingPath,
      sizeBytes: device.sizeBytes,
      mode: device.mode,
      dataCrc: device.dataCrc,
      ...state,
      dirtyKeys: dirty.dirtyKeys,
      dirtyBytes: dirty.dirtyBytes,
      dirtyIsLowerBound: dirty.isLowerBound,
      intervalMs,
      writtenBackBytes: dirty.writtenBackBytes ?? null,
      dirtyTailStillMs,
      writebackStandsStill: dirtyTailStillMs >= STANDS_STILL_MS,
      requests: countersOf(`/sys/block/${device.kernelName}`),
      backingRequests,
    };
  }

  private stillMs({ keyHead, dirtyTail }: TargetState, backing: BlockCounters | null, nowMs: number): number {
    if (isSamePosition(dirtyTail, keyHead)) {
      this.standing = undefined;
      return 0;
    }
    const backingWrites = backing?.writeRequests ?? 0;
    const { standing } = this;
    if (!standing || !isSamePosition(standing.dirtyTail, dirtyTail) || standing.backingWrites !== backingWrites) {
      this.standing = { dirtyTail, backingWrites, sinceMs: nowMs };
    }
    return Math.round(nowMs - this.standing!.sinceMs);
  }
}
