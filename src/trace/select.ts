/**
 * Decides what a record of a blktrace recording is: a request to deliver (of which kind, with which flags) or
 * something to count and pass over. One selector serves all files of a recording, so the origin of time is common
 * to them.
 */
import { ActionNumber, ACTION_MASK, Category, Category8, deviceName, Field } from './record.js';
import type { RecordLayout } from './record.js';
import { SECTOR_BYTES } from './sink.js';
import type { RequestSink } from './sink.js';
import { TraceFlag, TraceOp } from './types.js';
import type { TraceAction } from './types.js';
import type { ReorderWindow } from './window.js';

const TWO_32 = 2 ** 32;

export class RequestSelector {
  readonly sink: RequestSink;
  readonly #actionNumber: number;
  // Times are differences to this one, taken by halves: a machine's clock passes 2^53 ns after 104 days.
  #originHigh = -1;
  #originLow = 0;
  /** Time of the latest request, ns. */
  latestNs = 0;

  constructor(sink: RequestSink, action: TraceAction) {
    this.sink = sink;
    this.#actionNumber = ActionNumber[action];
  }

  /**
   * Takes the record whose header is at `at`; a request to deliver goes into `window`, which has room.
   * @returns why it is malformed, if it is
   */
  take(
    view: DataView,
    at: number,
    layout: RecordLayout,
    littleEndian: boolean,
    window: ReorderWindow,
  ): string | undefined {
    const { counts, actions, devices } = this.sink;
    counts.records++;
    const action = view.getUint32(at + halfOf(layout, 0, littleEndian), littleEndian);
    if ((action & Category.notify) !== 0) {
      counts.notify++;
      return undefined;
    }
    const number = action & ACTION_MASK;
    if (number === ActionNumber.queue) actions.queue++;
    else if (number === ActionNumber.issue) actions.issue++;
    else if (number === ActionNumber.complete) actions.complete++;
    const isRequeue = number === ActionNumber.requeue && this.#actionNumber === ActionNumber.issue;
    if (number !== this.#actionNumber) {
      counts.otherActions++;
      if (!isRequeue) return undefined;
    }
    const device = devices.indexOfNumber(view.getUint32(at + layout.device, littleEndian), deviceName);
    if (!isRequeue && !this.sink.wants(device)) return undefined;
    const high =
      layout.actionHigh === undefined ? 0 : view.getUint32(at + halfOf(layout, 1, littleEndian), littleEndian);
    return this.#takeRequest(view, at, layout, littleEndian, window, action, high, device, isRequeue);
  }

  #takeRequest(
    view: DataView,
    at: number,
    layout: RecordLayout,
    littleEndian: boolean,
    window: ReorderWindow,
    action: number,
    actionHigh: number,
    device: number,
    isRequeue: boolean,
  ): string | undefined {
    const { counts } = this.sink;
    if ((action & Category.passthrough) !== 0) {
      if (!isRequeue) counts.passthrough++;
      return undefined;
    }
    if ((actionHigh & Category8.zoneManagement) !== 0) {
      if (!isRequeue) counts.zoneManagement++;
      return undefined;
    }
    const lengthBytes = view.getUint32(at + layout.bytes, littleEndian);
    const isFlush = lengthBytes === 0 && (action & Category.flush) !== 0;
    if (lengthBytes === 0 && !isFlush) {
      if (!isRequeue) counts.skippedZeroLength++;
      return undefined;
    }
    if (lengthBytes % SECTOR_BYTES !== 0 && !isRequeue)
      return `its length of ${lengthBytes} bytes is no whole number of sectors`;
    const op = isFlush ? TraceOp.flush : opOf(action, actionHigh);
    if (op < 0) return isRequeue ? undefined : 'it neither reads nor writes nor discards';
    const low = view.getUint32(at + Field.timeLow + (littleEndian ? 0 : 4), littleEndian);
    const high = view.getUint32(at + Field.timeLow + (littleEndian ? 4 : 0), littleEndian);
    if (this.#originHigh < 0) {
      this.#originHigh = high;
      this.#originLow = low;
    }
    const timeNs = (high - this.#originHigh) * TWO_32 + (low - this.#originLow);
    this.latestNs = timeNs;
    const offsetBytes = isFlush ? 0 : readU64(view, at + Field.sectorLow, littleEndian) * SECTOR_BYTES;
    const sequence = view.getUint32(at + Field.sequence, littleEndian);
    if (isRequeue) {
      this.sink.requeue(window, device, timeNs, sequence, op, offsetBytes);
      return undefined;
    }
    const flags = flagsOf(action, isFlush);
    const wrong = this.sink.request(window, device, timeNs, sequence, op, flags, offsetBytes, lengthBytes);
    if (wrong === undefined && view.getUint16(at + layout.error, littleEndian) !== 0) counts.failed++;
    return wrong;
  }
}

/** Where a half of the action is: 0 the low one, 1 the high one. */
function halfOf({ action, actionHigh }: RecordLayout, half: 0 | 1, littleEndian: boolean): number {
  if (actionHigh === undefined) return action;
  return (half === 0) === littleEndian ? action : actionHigh;
}

/** A `TraceOp`, or -1. */
function opOf(action: number, actionHigh: number): number {
  if ((action & Category.discard) !== 0) return TraceOp.discard;
  if ((actionHigh & (Category8.zoneAppend | Category8.writeZeroes)) !== 0) return TraceOp.write;
  if ((action & Category.write) !== 0) return TraceOp.write;
  return (action & Category.read) !== 0 ? TraceOp.read : -1;
}

function flagsOf(action: number, isFlush: boolean): number {
  return (
    ((action & Category.fua) !== 0 ? TraceFlag.fua : 0) |
    (!isFlush && (action & Category.flush) !== 0 ? TraceFlag.preflush : 0) |
    ((action & Category.sync) !== 0 ? TraceFlag.sync : 0) |
    ((action & Category.meta) !== 0 ? TraceFlag.meta : 0) |
    ((action & Category.ahead) !== 0 ? TraceFlag.ahead : 0)
  );
}

/** An unsigned 64-bit integer as a double (rounded from 2^53 on). */
function readU64(view: DataView, at: number, littleEndian: boolean): number {
  const low = view.getUint32(at + (littleEndian ? 0 : 4), littleEndian);
  const high = view.getUint32(at + (littleEndian ? 4 : 0), littleEndian);
  return high * TWO_32 + low;
}
