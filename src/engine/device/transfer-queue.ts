/**
 * Reads and writes of a file that were asked for in one turn of the event loop, started together: one piece of
 * work off the main thread for many of them, where Node's own calls are one each. Reads are spread over a few
 * threads, so that a device that can do several things at once is given several; writes only go to the page
 * cache, where those of one file wait for one another.
 */
import { systemError, type NativeAddon, type TransferBatch } from './native.js';

/** Called with what ended the transfer early, or null; and with the bytes moved: fewer without an error at the end of the file. */
export type TransferDone = (error: NodeJS.ErrnoException | null, movedBytes: number) => void;

const BATCH_TRANSFERS = 128;
/** As many threads as libuv has for such work. */
const READ_THREADS = 4;

class Batch implements TransferBatch {
  readonly isWrite = new Uint8Array(BATCH_TRANSFERS);
  readonly offsetBytes = new Float64Array(BATCH_TRANSFERS);
  readonly lengthBytes = new Float64Array(BATCH_TRANSFERS);
  readonly bytesOffset = new Float64Array(BATCH_TRANSFERS);
  readonly movedBytes = new Float64Array(BATCH_TRANSFERS);
  readonly errno = new Int32Array(BATCH_TRANSFERS);
  readonly memory: Uint8Array[] = [];
  readonly done: TransferDone[] = [];
  readonly ended: () => void;

  constructor(onEnded: (batch: Batch) => void) {
    this.ended = () => onEnded(this);
  }
}

interface Transfer {
  readonly isWrite: boolean;
  readonly offsetBytes: number;
  readonly bytes: Uint8Array;
  readonly bytesOffset: number;
  readonly lengthBytes: number;
  readonly done: TransferDone;
}

export class TransferQueue {
  private queued: Transfer[] = [];
  private readonly free: Batch[] = [];

  constructor(
    private readonly addon: NativeAddon,
    private readonly fd: number,
  ) {}

  /** Takes a transfer, which begins at the end of this turn; the memory must stay untouched until `done`. */
  add(transfer: Transfer): void {
    this.queued.push(transfer);
    if (this.queued.length === 1) queueMicrotask(() => this.start());
  }

  private start(): void {
    const { queued } = this;
    this.queued = [];
    const writes = queued.filter((transfer) => transfer.isWrite);
    const reads = queued.filter((transfer) => !transfer.isWrite);
    this.startAll(writes, BATCH_TRANSFERS);
    this.startAll(reads, Math.ceil(reads.length / READ_THREADS));
  }

  private startAll(transfers: readonly Transfer[], share: number): void {
    const step = Math.min(share, BATCH_TRANSFERS);
    for (let from = 0; from < transfers.length; from += step) this.startBatch(transfers.slice(from, from + step));
  }

  private startBatch(transfers: readonly Transfer[]): void {
    const batch = this.free.pop() ?? new Batch((ended) => this.batchEnded(ended));
    transfers.forEach(({ isWrite, offsetBytes, bytes, bytesOffset, lengthBytes, done }, i) => {
      batch.isWrite[i] = isWrite ? 1 : 0;
      batch.offsetBytes[i] = offsetBytes;
      batch.lengthBytes[i] = lengthBytes;
      batch.bytesOffset[i] = bytesOffset;
      batch.memory[i] = bytes;
      batch.done[i] = done;
    });
    batch.memory.length = transfers.length;
    batch.done.length = transfers.length;
    this.addon.transfer(this.fd, batch, transfers.length, batch.ended);
  }

  private batchEnded(batch: Batch): void {
    const { done, errno, movedBytes } = batch;
    for (let i = 0; i < done.length; i++) {
      const code = errno[i];
      done[i](code === 0 ? null : systemError(code, 'a transfer failed'), movedBytes[i]);
    }
    batch.memory.length = 0;
    batch.done.length = 0;
    this.free.push(batch);
  }
}
