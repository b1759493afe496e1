/**
 * Slows writers down before the cache is full: with little room left, replies to writes are held back so that writes
 * come about as fast as the backing device takes them. So nobody meets a full cache, where a writer waits until a
 * whole segment has been written back.
 *
 * The rate is the measured one when half of the zone is left, rises steeply above and falls steeply below. It is never
 * zero while there is room: a client always sees something complete. Connections take turns.
 *
 * Held replies take no memory of the cache device beyond what their writes have, and `isOverdrawn` bounds those.
 */
import type { WritePressure } from '../engine/index.js';

const TICK_MS = 5;
/** How often the pressure is looked at, ms. */
const LOOK_MS = 20;
/** As long as nothing has been written back: the room lasts for this time. */
const UNKNOWN_LASTS_MS = 120_000;
/** One block in this time at least. */
const LEAST_BYTES_PER_MS = 4096 / 200;
/** What is not used at once may be used within this time. */
const BURST_MS = 50;
const BURST_MIN_BYTES = 64 * 1024;
/** How steeply the rate changes with the room. */
const STEEPNESS = 2;
/** Bytes a connection may have written into the cache without a reply. */
const HELD_MAX_BYTES = 1024 * 1024;

/** Bytes a millisecond that writers get. */
export function writeRate({ roomBytes, zoneBytes, writebackBytesPerMs }: WritePressure): number {
  const share = roomBytes / zoneBytes;
  if (share >= 1) return Infinity;
  const measured = writebackBytesPerMs > 0 ? writebackBytesPerMs : roomBytes / UNKNOWN_LASTS_MS;
  return Math.max(LEAST_BYTES_PER_MS, measured * (share / (1 - share)) ** STEEPNESS);
}

/** Replies to writes that one connection has held back, in their order. */
export class HeldReplies {
  readonly ops: number[] = [];
  readonly bytes: number[] = [];
  heldBytes = 0;

  /** @param release sends the reply. @param onReleased called after some were sent. */
  constructor(
    readonly release: (op: number) => void,
    readonly onReleased: () => void,
  ) {}

  /** So much is held that the connection should take no further write. */
  get isOverdrawn(): boolean {
    return this.heldBytes >= HELD_MAX_BYTES;
  }
}

export interface PacerOptions {
  readonly pressure: () => WritePressure | undefined;
  readonly nowMs: () => number;
  /** Called when writes begin to be slowed, and when that is over. */
  readonly onChange?: (isSlowed: boolean, bytesPerSecond: number) => void;
}

export class WritePacer {
  /** Bytes a millisecond that writers get now; Infinity when they are not slowed. */
  rate = Infinity;
  /** Replies that were held back, and for how long altogether writes were slowed, ms. */
  heldReplies = 0;
  slowedMs = 0;
  private readonly queues: HeldReplies[] = [];
  private budgetBytes = 0;
  private lastMs = 0;
  private lookedMs = -Infinity;
  private timer: NodeJS.Timeout | undefined;
  private isOff = false;

  constructor(private readonly options: PacerOptions) {}

  get isSlowed(): boolean {
    return this.rate < Infinity;
  }

  /** A write of a connection has ended. @returns whether its reply is held back */
  hold(queue: HeldReplies, op: number, bytes: number): boolean {
    if (this.isOff) return false;
    const now = this.options.nowMs();
    if (now - this.lookedMs >= LOOK_MS) this.look(now);
    if (!this.isSlowed) return false;
    if (queue.ops.length === 0) this.queues.push(queue);
    queue.ops.push(op);
    queue.bytes.push(bytes);
    queue.heldBytes += bytes;
    this.heldReplies++;
    this.timer ??= setTimeout(this.tick, TICK_MS);
    return true;
  }

  /** Sends everything that is held, and holds nothing any more: the server stops. */
  stop(): void {
    this.isOff = true;
    this.rate = Infinity;
    this.releaseSome();
  }

  /** Sends what a connection has held; it is about to end. */
  drop(queue: HeldReplies): void {
    const at = this.queues.indexOf(queue);
    if (at >= 0) this.queues.splice(at, 1);
    while (queue.ops.length > 0) this.releaseOne(queue);
  }

  private look(now: number): void {
    if (this.isSlowed && this.lookedMs > 0) this.slowedMs += now - this.lookedMs;
    this.lookedMs = now;
    const pressure = this.isOff ? undefined : this.options.pressure();
    const rate = pressure ? writeRate(pressure) : Infinity;
    const wasSlowed = this.isSlowed;
    this.rate = rate;
    if (this.isSlowed === wasSlowed) return;
    this.lastMs = now;
    this.budgetBytes = 0;
    this.options.onChange?.(this.isSlowed, rate * 1000);
  }

  private readonly tick = (): void => {
    this.timer = undefined;
    const now = this.options.nowMs();
    if (now - this.lookedMs >= LOOK_MS) this.look(now);
    const burst = Math.max(BURST_MIN_BYTES, this.rate * BURST_MS);
    if (this.isSlowed) this.budgetBytes = Math.min(burst, this.budgetBytes + this.rate * (now - this.lastMs));
    this.lastMs = now;
    this.releaseSome();
    if (this.queues.length > 0) this.timer = setTimeout(this.tick, TICK_MS);
  };

  /** Sends replies as far as the budget goes, one of each connection in turn. */
  private releaseSome(): void {
    const served = new Set<HeldReplies>();
    while (this.queues.length > 0 && (!this.isSlowed || this.budgetBytes > 0)) {
      const queue = this.queues.shift()!;
      this.budgetBytes -= this.releaseOne(queue);
      served.add(queue);
      if (queue.ops.length > 0) this.queues.push(queue);
    }
    for (const queue of served) queue.onReleased();
  }

  private releaseOne(queue: HeldReplies): number {
    const op = queue.ops.shift()!;
    const bytes = queue.bytes.shift()!;
    queue.heldBytes -= bytes;
    queue.release(op);
    return bytes;
  }
}
