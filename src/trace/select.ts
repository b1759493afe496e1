/**
 * Decides what a record is: a request to deliver (of which kind, with which flags) or something to count and
 * pass over. One selector serves all files of a recording, so the tally, the device and the origin of time are
 * common to them.
 */
import { PcacheError } from '../engine/errors.js';
import { ActionNumber, ACTION_MASK, Category, deviceName, Field, parseDeviceName } from './record.js';
import { TraceFlag, TraceOp, zeroCounts } from './types.js';
import type { TraceAction, TraceCounts, TraceOptions, TraceTally } from './types.js';
import type { ReorderWindow } from './window.js';

const SECTOR_BYTES = 512;
const TWO_32 = 2 ** 32;

interface DeviceRequests {
  readonly device: number;
  count: number;
}

export class RequestSelector {
  readonly counts: TraceCounts = zeroCounts();
  readonly #action: TraceAction;
  readonly #actionNumber: number;
  readonly #wantedDevice: number | undefined;
  readonly #devices = new Map<number, DeviceRequests>();
  /** The device of the record before: nearly always that of the next. */
  #latest: DeviceRequests = { device: -1, count: 0 };
  /** Events of every action, by its number. */
  readonly #actions = new Float64Array(256);
  // Times are differences to this one, taken by halves: a machine's clock passes 2^53 ns after 104 days.
  #originHigh = -1;
  #originLow = 0;

  constructor(options: TraceOptions) {
    this.#action = options.action;
    this.#actionNumber = ActionNumber[options.action];
    if (options.device === undefined) return;
    this.#wantedDevice = parseDeviceName(options.device);
    if (this.#wantedDevice === undefined) {
      throw new PcacheError(
        'USAGE',
        `device "${options.device}" of a trace: give its numbers as MAJOR,MINOR, for example 8,0`,
      );
    }
  }

  /** True once several devices have requests and none was chosen: nothing more is delivered, only counted. */
  get ambiguous(): boolean {
    return this.#wantedDevice === undefined && this.#devices.size > 1;
  }

  tally(): TraceTally {
    const devices = new Map<string, number>();
    for (const { device, count } of this.#devices.values()) devices.set(deviceName(device), count);
    return { ...this.counts, devices };
  }

  /** Takes the record whose header is at `at`; a request to deliver goes into `window`, which has room. */
  take(view: DataView, at: number, littleEndian: boolean, window: ReorderWindow): void {
    const counts = this.counts;
    counts.records++;
    const action = view.getUint32(at + Field.action, littleEndian);
    if ((action & Category.notify) !== 0) {
      counts.notify++;
      return;
    }
    const number = action & ACTION_MASK;
    if (number < this.#actions.length) this.#actions[number]++;
    if (number !== this.#actionNumber) {
      counts.otherActions++;
      return;
    }
    const device = view.getUint32(at + Field.device, littleEndian);
    if (this.#wantedDevice !== undefined && device !== this.#wantedDevice) {
      counts.otherDevices++;
      this.#countDevice(device);
      return;
    }
    this.#takeRequest(view, at, littleEndian, window, action, device);
  }

  #takeRequest(
    view: DataView,
    at: number,
    littleEndian: boolean,
    window: ReorderWindow,
    action: number,
    device: number,
  ): void {
    const counts = this.counts;
    if ((action & Category.passthrough) !== 0) {
      counts.passthrough++;
      return;
    }
    const lengthBytes = view.getUint32(at + Field.bytes, littleEndian);
    const isFlush = lengthBytes === 0 && (action & Category.flush) !== 0;
    if (lengthBytes === 0 && !isFlush) {
      counts.skippedZeroLength++;
      return;
    }
    const offsetBytes = isFlush ? 0 : readU64(view, at + Field.sectorLow, littleEndian) * SECTOR_BYTES;
    const possible =
      offsetBytes + lengthBytes <= Number.MAX_SAFE_INTEGER &&
      lengthBytes % SECTOR_BYTES === 0 &&
      (isFlush || (action & (Category.read | Category.write | Category.discard)) !== 0);
    if (!possible) {
      counts.malformed++;
      return;
    }
    this.#countDevice(device);
    const op = isFlush ? TraceOp.flush : opOf(action);
    this.#countRequest(op, action);
    if (view.getUint16(at + Field.error, littleEndian) !== 0) counts.failed++;
    if (this.ambiguous) return;
    const low = view.getUint32(at + Field.timeLow + (littleEndian ? 0 : 4), littleEndian);
    const high = view.getUint32(at + Field.timeLow + (littleEndian ? 4 : 0), littleEndian);
    if (this.#originHigh < 0) {
      this.#originHigh = high;
      this.#originLow = low;
    }
    const timeNs = (high - this.#originHigh) * TWO_32 + (low - this.#originLow);
    const sequence = view.getUint32(at + Field.sequence, littleEndian);
    window.push(timeNs, sequence, op, flagsOf(action, isFlush), offsetBytes, lengthBytes);
  }

  #countDevice(device: number): void {
    if (this.#latest.device !== device) {
      let found = this.#devices.get(device);
      if (found === undefined) {
        found = { device, count: 0 };
        this.#devices.set(device, found);
      }
      this.#latest = found;
    }
    this.#latest.count++;
  }

  #countRequest(op: number, action: number): void {
    const counts = this.counts;
    counts.selected++;
    if (op === TraceOp.read) counts.reads++;
    else if (op === TraceOp.flush) counts.flushes++;
    else if (op === TraceOp.discard) counts.discards++;
    else {
      counts.writes++;
      if ((action & Category.flush) !== 0) counts.preflushes++;
      if ((action & Category.fua) !== 0) counts.fuas++;
    }
  }

  /** Throws BAD_TRACE when the devices in `name`, now read to its end, do not say whose requests are meant. */
  checkDevices(name: string): void {
    const list = [...this.#devices.values()].map(({ device, count }) => `${deviceName(device)} (${count} requests)`);
    if (this.ambiguous) {
      throw new PcacheError(
        'BAD_TRACE',
        `${name}: holds requests of several devices: ${list.join(', ')}; choose one with --device`,
      );
    }
    if (this.#wantedDevice === undefined || this.#devices.has(this.#wantedDevice) || list.length === 0) return;
    throw new PcacheError(
      'BAD_TRACE',
      `${name}: holds no requests of device ${deviceName(this.#wantedDevice)}, but of ${list.join(', ')}; choose one of these with --device`,
    );
  }

  /** One line when the trace, now read to its end, had nothing to deliver, saying what it has instead. */
  warningIfNothing(): string | undefined {
    if (this.counts.selected > 0) return undefined;
    const others = Object.entries(ActionNumber)
      .filter(([, number]) => number !== this.#actionNumber && this.#actions[number] > 0)
      .map(([action, number]) => `${this.#actions[number]} of ${action}`);
    const instead = others.length === 0 ? '' : `, but ${others.join(' and ')}; choose one of these with --action`;
    return `no request in ${this.counts.records} records has the action ${this.#action}${instead}`;
  }
}

function opOf(action: number): number {
  if ((action & Category.discard) !== 0) return TraceOp.discard;
  return (action & Category.write) !== 0 ? TraceOp.write : TraceOp.read;
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
