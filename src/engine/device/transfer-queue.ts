/**
 * Batches reads and writes of a file: all transfers of one turn of the event loop start together, as one job off the
 * main thread, where Node's own calls are one job each. Reads are spread over a few threads, so that a device that can
 * serve several requests at once receives several; writes go to the page cache, where the writes of one file wait for
 * one another anyway.
 */
import { systemError, type NativeAddon, type TransferBatch } from './native.js';

/** Receives the error that ended the transfer, or null, and the bytes moved; fewer bytes without an error mean end of file. */
export type TransferDone = (error: NodeJS.ErrnoException | null, movedBytes: number) => void;

const BATCH_TRANSFERS = 128;
/** The number of threads that libuv has for such jobs. */
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

  /** Queues a transfer, which begins at the end of this turn. The caller leaves the memory untouched until `done`. */
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
