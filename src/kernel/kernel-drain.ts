/**
 * Waits until the kernel's target has written back what is dirty. Its write-back goes on by itself and does not look at
 * gc_percent, so nothing is set: a flush closes the open ksets, and then dirty_tail is watched until it has passed the
 * place in the log that key_head had after the flush.
 */
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { ExitStatus, fromSystemError, PcacheError } from '../engine/errors.js';
import type { CloseReport } from '../engine/index.js';
import { isSamePosition, type Position } from '../engine/media/codecs.js';
import { positionText } from '../engine/media/position-text.js';
import { readState, type KernelDevice } from './device-mapper.js';
import type { KernelStatus, KernelStatusReporter } from './kernel-status.js';

const LOOK_MS = 250;

export interface DrainOptions {
  /** Infinity to wait for ever. */
  readonly timeoutMs: number;
  /** Ends the wait. */
  readonly stop: AbortSignal;
  /** @param doneBytes of `totalBytes`, which were dirty at the beginning */
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
  /** Called when a thread of this process goes on waiting for the device. */
  readonly leaveStuckThreads: () => void;
}

/** Has the device close its open ksets, so that the log tells of everything that was written. */
export async function flushDevice({ path }: KernelDevice): Promise<void> {
  try {
    const file = await open(path, 'r');
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    throw fromSystemError(error, path, 'flushing it');
  }
}

/**
 * Writes back what was written before. What clients write meanwhile may be dirty at the end.
 * @returns what is dirty then
 * @throws PcacheError DIRTY (status 4) when time is up, INTERRUPTED, IO when write-back stands still
 */
export async function drainKernelDevice(reporter: KernelStatusReporter, options: DrainOptions): Promise<CloseReport> {
  const { device } = reporter;
  const { timeoutMs, stop, onProgress } = options;
  const untilMs = reporter.nowMs() + timeoutMs;
  const timer = new AbortController();
  const woken = Promise.race([sleepUntilAborted(stop), sleepFor(timeoutMs, timer.signal)]);
  try {
    const isFlushed = await Promise.race([flushDevice(device).then(() => true), woken.then(() => false)]);
    if (!isFlushed) {
      options.leaveStuckThreads();
      requireGoingOn(device, undefined, stop, true, timeoutMs);
    }
    const { keyHead } = await readState(device);
    let totalBytes: number | undefined;
    for (;;) {
      const status = await reporter.status();
      const leftBytes = leftOf(reporter, status, keyHead);
      if (leftBytes === undefined) return { dirtyKeys: status.dirtyKeys, dirtyBytes: status.dirtyBytes };
      totalBytes ??= leftBytes;
      onProgress(Math.max(0, totalBytes - leftBytes), totalBytes);
      if (status.writebackStandsStill) throw standsStill(status);
      requireGoingOn(device, status, stop, reporter.nowMs() >= untilMs, timeoutMs);
      await Promise.race([sleep(LOOK_MS), woken]);
    }
  } finally {
    timer.abort();
  }
}

/** Dirty bytes before a position of the log; undefined when dirty_tail has reached it. */
function leftOf({ log }: KernelStatusReporter, status: KernelStatus, target: Position): number | undefined {
  const { dirtyTail, dirtyIsLowerBound, dirtyBytes } = status;
  if (isSamePosition(dirtyTail, target)) return undefined;
  return dirtyIsLowerBound ? dirtyBytes : log.bytesBefore(target);
}

function requireGoingOn(
  { name }: KernelDevice,
  status: KernelStatus | undefined,
  stop: AbortSignal,
  isLate: boolean,
  timeoutMs: number,
): void {
  const left = status === undefined ? 'its flush has not ended' : `${status.dirtyBytes} bytes are dirty`;
  if (stop.aborted) {
    throw new PcacheError('INTERRUPTED', `${name}: interrupted, ${left}; the kernel goes on writing back`);
  }
  if (!isLate) return;
  throw new PcacheError(
    'DIRTY',
    `${name}: after ${timeoutMs / 1000} s ${left}; the kernel goes on writing back: drain again, with a longer --timeout`,
    { exitStatus: ExitStatus.problemsLeft },
  );
}

function standsStill({ name, dirtyTail, dirtyTailStillMs, backing, dirtyBytes }: KernelStatus): PcacheError {
  const still = `dirty_tail stays at ${positionText(dirtyTail)} for ${Math.round(dirtyTailStillMs / 1000)} s`;
  const nothing = `with ${dirtyBytes} bytes dirty, and nothing is written to ${backing}`;
  return new PcacheError(
    'IO',
    `${name}: write-back stands still: ${still} ${nothing}; see the kernel log (dmesg) for a data_crc or I/O error`,
  );
}

function sleepUntilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

async function sleepFor(milliseconds: number, signal: AbortSignal): Promise<void> {
  if (milliseconds === Infinity) return sleepUntilAborted(signal);
  await sleep(milliseconds, undefined, { signal }).catch(() => undefined);
}
