/** What a replay counts of the requests it makes, beside what the engine counts. */
import { RequestFlag } from '../engine/index.js';
import { Timeline } from './timeline.js';

export class RunTotals {
  requests = 0;
  readBytes = 0;
  writeBytes = 0;
  fuaWrites = 0;
  preflushWrites = 0;
  discardsSkipped = 0;
  discardBytesSkipped = 0;
  peakSegmentsUsed = 0;
  readonly segmentsUsed = new Timeline();

  discard(lengthBytes: number): void {
    this.discardsSkipped++;
    this.discardBytesSkipped += lengthBytes;
  }

  /** @param flags `RequestFlag` bits of a write. */
  forced(flags: number): void {
    if ((flags & RequestFlag.fua) !== 0) this.fuaWrites++;
    if ((flags & RequestFlag.preflush) !== 0) this.preflushWrites++;
  }

  sample(segmentsUsed: number): void {
    if (segmentsUsed > this.peakSegmentsUsed) this.peakSegmentsUsed = segmentsUsed;
    this.segmentsUsed.offer(this.requests, segmentsUsed);
  }
}
