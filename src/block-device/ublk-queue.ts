/**
 * A queue of a ublk device: requests come in columns, and results go back. The kernel copies the payload of a request
 * from and to the memory of its tag, in the thread that serves the queue.
 */
import { nativeAddon, type UblkColumns } from '../engine/device/native.js';

/** Takes the requests of a device. */
export interface QueueServer {
  /** `depth` times `maxIoBytes`; that of a tag begins at tag × `maxIoBytes`. */
  readonly memory: Uint8Array;
  /** The first `count` rows of the columns hold requests, until this returns. Each is answered with `complete`. */
  take(count: number): void;
}

/** Where a queue is, for the thread that serves it. */
export interface QueuePlace {
  /** Of the block device. */
  readonly path: string;
  /** Of /dev/ublkcN; it stays open until the queue is closed. */
  readonly fd: number;
  readonly number: number;
  /** Requests under way at most, and their longest payload. */
  readonly depth: number;
  readonly maxIoBytes: number;
  /** False for drivers before Linux 6.4. */
  readonly isEncoded: boolean;
}

export interface ServedQueue {
  /** Resolves when the queue no longer uses the file. */
  close(): Promise<void>;
}

export class UblkQueue implements ServedQueue {
  readonly columns: UblkColumns;
  readonly depth: number;
  readonly maxIoBytes: number;
  private served: { commit(count: number): void; close(): void } | undefined;
  private finished = 0;

  constructor(private readonly place: QueuePlace) {
    const { depth, maxIoBytes } = place;
    this.depth = depth;
    this.maxIoBytes = maxIoBytes;
    this.columns = {
      depth,
      tag: new Uint16Array(depth),
      op: new Uint8Array(depth),
      offsetBytes: new Float64Array(depth),
      lengthBytes: new Uint32Array(depth),
      commitTag: new Uint16Array(depth),
      commitResult: new Int32Array(depth),
    };
  }

  /**
   * Begins to serve, in this thread. The device can be started when all of its queues are served.
   * @param ended receives an errno, or 0, when the driver takes no further results
   */
  serve(server: QueueServer, ended: (errno: number) => void): void {
    const { fd, number, isEncoded } = this.place;
    this.served = nativeAddon().ublkServe(
      fd,
      number,
      this.columns,
      server.memory,
      this.maxIoBytes,
      isEncoded,
      (count) => server.take(count),
      ended,
    );
  }

  /** Ends a request; the driver hears of it at the next `flush`. @param result bytes, or a negative errno */
  complete(tag: number, result: number): void {
    const { commitTag, commitResult } = this.columns;
    commitTag[this.finished] = tag;
    commitResult[this.finished] = result;
    this.finished++;
  }

  flush(): void {
    const count = this.finished;
    if (count === 0) return;
    this.finished = 0;
    this.served?.commit(count);
  }

  close(): Promise<void> {
    this.served?.close();
    this.served = undefined;
    return Promise.resolve();
  }
}
