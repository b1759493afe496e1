/**
 * When a backing device would have done what it is asked for. First come, first served: `depth` calls are worked
 * on at once, each takes its fixed time and then hands over its bytes, which share one channel. A flush begins
 * when all calls before it have ended, and nothing begins before it has.
 *
 * A seek takes `shortSeekNs` and a time that grows with the root of the distance. An offset a little further on is reached
 * sooner if everything before it passes at the rate of a transfer.
 *
 * Nothing of what is told later changes an answer, so the end of a call is known when it is made. Times are in
 * nanoseconds from any origin; calls must come in the order of their times.
 */
import type { BackingModel } from './latency-model.js';

/** Mean root of the distance of two random places, which are even over a device of size 1. */
const MEAN_ROOT_OF_DISTANCE = 8 / 15;

export class QueueModel {
  /** Time in which calls were worked on, summed over all places. */
  busyNs = 0;
  /** When each of the places is free again. */
  private readonly freeNs: Float64Array;
  private channelFreeNs = 0;
  private barrierNs = 0;
  private lastEndNs = 0;
  /** End of the last call; undefined before the first, and then it takes an average seek to anywhere. */
  private headOffsetBytes: number | undefined;
  /** Calls that did not begin where the one before ended. */
  seeks = 0;

  /** @param deviceBytes size of the device, over which `seekNs` is the average */
  constructor(
    private readonly model: BackingModel,
    private readonly deviceBytes: number,
  ) {
    this.freeNs = new Float64Array(model.depth);
  }

  /** @returns when a read that is asked for at `nowNs` ends */
  read(nowNs: number, offsetBytes: number, lengthBytes: number): number {
    return this.call(nowNs, this.model.readNs, offsetBytes, lengthBytes);
  }

  /** @returns when a write that is asked for at `nowNs` ends */
  write(nowNs: number, offsetBytes: number, lengthBytes: number): number {
    return this.call(nowNs, this.model.writeNs, offsetBytes, lengthBytes);
  }

  /** @returns when a flush that is asked for at `nowNs` ends */
  flush(nowNs: number): number {
    const begin = Math.max(nowNs, this.lastEndNs);
    this.lastEndNs = begin + this.model.flushNs;
    this.barrierNs = this.lastEndNs;
    this.busyNs += this.model.flushNs * this.model.depth;
    return this.lastEndNs;
  }

  private call(nowNs: number, fixedNs: number, offsetBytes: number, lengthBytes: number): number {
    const { model, freeNs } = this;
    let place = 0;
    for (let n = 1; n < freeNs.length; n++) if (freeNs[n] < freeNs[place]) place = n;
    const begin = Math.max(nowNs, freeNs[place], this.barrierNs);
    const seekNs = this.seekNs(offsetBytes);
    const transferNs = (lengthBytes / model.bytesPerSecond) * 1e9;
    const end = Math.max(begin + seekNs + fixedNs, this.channelFreeNs) + transferNs;
    freeNs[place] = end;
    this.channelFreeNs = end;
    this.headOffsetBytes = offsetBytes + lengthBytes;
    this.busyNs += end - begin;
    if (end > this.lastEndNs) this.lastEndNs = end;
    return end;
  }

  private seekNs(offsetBytes: number): number {
    const { model, headOffsetBytes, deviceBytes } = this;
    if (offsetBytes === headOffsetBytes) return 0;
    this.seeks++;
    if (headOffsetBytes === undefined) return model.seekNs;
    const distanceBytes = offsetBytes - headOffsetBytes;
    const root = Math.sqrt(Math.abs(distanceBytes) / deviceBytes);
    const movingNs = ((model.seekNs - model.shortSeekNs) * root) / MEAN_ROOT_OF_DISTANCE;
    const passingNs = distanceBytes > 0 ? (distanceBytes / model.bytesPerSecond) * 1e9 : Infinity;
    return Math.min(model.shortSeekNs + movingNs, passingNs);
  }
}
