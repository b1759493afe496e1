/**
 * Queue 0 of a ublk device: requests come in columns, and results go back. The kernel copies the payload of a request
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

export class UblkQueue {
  readonly columns: UblkColumns;
  private served: { commit(count: number): void; close(): void } | undefined;
  private finished = 0;

  constructor(
    readonly depth: number,
    readonly maxIoBytes: number,
  ) {
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
   * Begins to serve. The device can be started afterwards.
   * @param fd of /dev/ublkcN, kept open until `close`
   * @param ended receives an errno, or 0, when the driver takes no further results
   */
  serve(fd: number, isEncoded: boolean, server: QueueServer, ended: (errno: number) => void): void {
    this.served = nativeAddon().ublkServe(
      fd,
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

  close(): void {
    this.served?.close();
    this.served = undefined;
  }
}
