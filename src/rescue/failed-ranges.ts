/** Ranges of the logical device that could not be written back, and why. */

/**
 * `bad-crc`: the payload does not match the CRC of its key. `unreadable`: the cache device cannot read it.
 * `write-error`: the backing device would not take it.
 */
export type FailureReason = 'bad-crc' | 'unreadable' | 'write-error';

export interface FailedRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly reason: FailureReason;
}

export class FailedRanges {
  /** Sum of the lengths. */
  bytes = 0;
  private readonly ranges: { offsetBytes: number; lengthBytes: number; reason: FailureReason }[] = [];

  /** Ranges must not overlap; those that are added in order and adjoin become one. */
  add(offsetBytes: number, lengthBytes: number, reason: FailureReason): void {
    this.bytes += lengthBytes;
    const last = this.ranges.at(-1);
    if (last !== undefined && last.reason === reason && last.offsetBytes + last.lengthBytes === offsetBytes) {
      last.lengthBytes += lengthBytes;
    } else {
      this.ranges.push({ offsetBytes, lengthBytes, reason });
    }
  }

  /** In the order of the device. */
  sorted(): FailedRange[] {
    return this.ranges.sort((a, b) => a.offsetBytes - b.offsetBytes);
  }
}
