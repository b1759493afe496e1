/**
 * What a connection has received and not parsed yet, and whether it can receive more. While the receiver has been asked
 * for more, the receive windows stay as they are: the socket may be writing into them.
 */
import { assert } from '../engine/errors.js';
import type { ReceiveWindows } from './receive-windows.js';

export class Intake {
  /** Received elsewhere, and not yet put into a window. */
  private held: Uint8Array | undefined;
  private isAsked = true;

  constructor(
    private readonly memory: Uint8Array,
    private readonly windows: ReceiveWindows,
  ) {}

  /** The receiver has been asked for more. */
  get isReceiving(): boolean {
    return this.isAsked;
  }

  get target(): Uint8Array | undefined {
    return this.isAsked ? this.windows.target : undefined;
  }

  /** Bytes were received into `target`. */
  taken(count: number): void {
    this.isAsked = false;
    this.windows.end += count;
  }

  /** Bytes were received elsewhere. */
  take(bytes: Uint8Array): void {
    assert(this.held === undefined, 'bytes are given to a connection that takes none');
    this.isAsked = false;
    this.held = bytes;
  }

  /** @returns whether more can be received; the windows then have room for `neededBytes` in one piece */
  hasRoom(neededBytes: number): boolean {
    return this.held === undefined && this.windows.makeRoom(neededBytes);
  }

  /** The receiver receives into `target` from now on. */
  ask(): void {
    this.isAsked = true;
  }

  /** Moves held bytes into the window. @returns whether there were any, and room for them */
  fill(neededBytes: number): boolean {
    const { held, windows } = this;
    if (held === undefined || !windows.makeRoom(neededBytes)) return false;
    const count = Math.min(held.length, windows.limit - windows.end);
    this.memory.set(count === held.length ? held : held.subarray(0, count), windows.end);
    windows.end += count;
    this.held = count === held.length ? undefined : held.subarray(count);
    return true;
  }

  /** Gives up the bytes that are in no window. */
  drop(): void {
    this.held = undefined;
  }
}
