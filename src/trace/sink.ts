/**
 * Where the readers of all formats bring their requests: counts them, holds them against what is wanted and what is
 * possible, and puts those to deliver into a window. One sink serves all files of a trace, so the tally and the
 * devices are common to them.
 */
import { PcacheError } from '../engine/errors.js';
import { counted } from './counted.js';
import { shownText } from './field-reader.js';
import { DeviceTable } from './trace-devices.js';
import { TraceFlag, TraceOp, zeroCounts } from './types.js';
import type { MalformedRecord, TraceAction, TraceCounts, TraceOptions, TraceTally } from './types.js';
import type { ReorderWindow } from './window.js';

export const SECTOR_BYTES = 512;

/** Stands in a window for no request: see `RequestSink.requeue`. Its flags are the operation. */
export const REQUEUE = 255;

/** No kernel makes larger requests: their length in bytes is of 32 bits. Discards of some traces are larger. */
const REQUEST_BYTES_MAX = 2 ** 32;

/**
 * A request lies at most so far from where the file's times start: a thousand years. Filetimes beside times of 1970 are
 * within it; a time with too many digits is not, and a double would no longer tell its milliseconds apart.
 */
const TIME_NS_MAX = 1000 * 365.25 * 86_400 * 1e9;

const MALFORMED_LIMIT = 100;
/** Of malformed records so many are named; of the rest, their number. */
const MALFORMED_NAMED = 5;
/** So many devices an error lists. */
const DEVICES_LISTED = 8;
/** Characters of a device's name in an error; names of files are long, and must be recognised to be chosen. */
const DEVICE_CHARACTERS_MAX = 100;

export class RequestSink {
  readonly counts: TraceCounts = zeroCounts();
  readonly devices = new DeviceTable();
  readonly malformed: MalformedRecord[] = [];
  /** Events of each action, in formats that tell them apart. */
  readonly actions: Record<TraceAction, number> = { queue: 0, issue: 0, complete: 0 };
  readonly #malformedLimit: number;
  readonly #allDevices: boolean;
  readonly #action: TraceAction;

  constructor({ action, malformedLimit = MALFORMED_LIMIT, allDevices = false }: TraceOptions) {
    this.#action = action;
    this.#malformedLimit = malformedLimit;
    this.#allDevices = allDevices;
  }

  /** True once several devices have requests and none was chosen: nothing more is delivered, only counted. */
  get ambiguous(): boolean {
    return !this.#allDevices && !this.devices.hasWanted && this.devices.withRequests > 1;
  }

  tally(): TraceTally {
    return { ...this.counts, devices: this.devices.counts() };
  }

  /** True when requests of that device are wanted; counts them otherwise. */
  wants(device: number): boolean {
    if (!this.devices.hasWanted || this.devices.wanted === device) return true;
    this.counts.otherDevices++;
    this.devices.count(device);
    return false;
  }

  /**
   * Takes a request of a device that is wanted; `window` has room. What begins or ends within a sector is widened.
   * @param timeNs relative to whatever the file's times start at
   * @param offsetBytes a whole number from 0 on, as `lengthBytes`; both 0 for a flush
   * @returns why it is malformed, if it is
   */
  request(
    window: ReorderWindow,
    device: number,
    timeNs: number,
    sequence: number,
    op: number,
    flags: number,
    offsetBytes: number,
    lengthBytes: number,
  ): string | undefined {
    const counts = this.counts;
    let start = offsetBytes;
    let length = lengthBytes;
    if (!(Math.abs(timeNs) <= TIME_NS_MAX)) return 'its time is out of range';
    if (op !== TraceOp.flush) {
      if (length === 0) {
        counts.skippedZeroLength++;
        return undefined;
      }
      if (length > REQUEST_BYTES_MAX && op !== TraceOp.discard) return 'it is longer than 4 GiB';
      const end = Math.ceil((start + length) / SECTOR_BYTES) * SECTOR_BYTES;
      if (!(end <= Number.MAX_SAFE_INTEGER)) return 'it ends beyond 8 PiB';
      if (start % SECTOR_BYTES !== 0 || length % SECTOR_BYTES !== 0) {
        counts.widened++;
        start -= start % SECTOR_BYTES;
        length = end - start;
      }
    }
    this.devices.count(device);
    counts.selected++;
    if (op === TraceOp.read) counts.reads++;
    else if (op === TraceOp.flush) counts.flushes++;
    else if (op === TraceOp.discard) counts.discards++;
    else {
      counts.writes++;
      if ((flags & TraceFlag.preflush) !== 0) counts.preflushes++;
      if ((flags & TraceFlag.fua) !== 0) counts.fuas++;
    }
    if (!this.ambiguous) window.push(timeNs, sequence, op, flags, start, length, device);
    return undefined;
  }

  /**
   * A request was given back by its driver: the next one like it is the same, issued again. Goes through the window, so
   * that it is met in the order of time.
   */
  requeue(
    window: ReorderWindow,
    device: number,
    timeNs: number,
    sequence: number,
    op: number,
    offsetBytes: number,
  ): void {
    if (this.devices.hasWanted && this.devices.wanted !== device) return;
    if (!this.ambiguous) window.push(timeNs, sequence, REQUEUE, op, offsetBytes, 0, device);
  }

  /** Takes back what `request` counted: the request was issued before. */
  uncount(op: number, flags: number, device: number): void {
    const { counts } = this;
    counts.selected--;
    counts.requeued++;
    if (op === TraceOp.read) counts.reads--;
    else if (op === TraceOp.flush) counts.flushes--;
    else if (op === TraceOp.discard) counts.discards--;
    else {
      counts.writes--;
      if ((flags & TraceFlag.preflush) !== 0) counts.preflushes--;
      if ((flags & TraceFlag.fua) !== 0) counts.fuas--;
    }
    this.devices.uncount(device);
  }

  /**
   * Counts a record that cannot be read.
   * @param name the file. @param where its place in it
   * @throws PcacheError BAD_TRACE when these are too many
   */
  reject(name: string, where: string, why: string): void {
    this.counts.malformed++;
    if (this.malformed.length < MALFORMED_NAMED) this.malformed.push({ where, why });
    if (this.counts.malformed <= this.#malformedLimit) return;
    const first = this.malformed[0];
    const many = counted(this.counts.malformed, 'malformed record');
    throw new PcacheError(
      'BAD_TRACE',
      `${name}: ${many} of ${this.counts.records}, at ${first.where} for instance: ${first.why}; ` +
        'if it is another format say so with --format, or allow more with --max-malformed',
    );
  }

  /** What to say of requests that are malformed, widened or left out: one line each. */
  warnings(name: string): string[] {
    const { malformed, widened } = this.counts;
    const lines = this.malformed.map(({ where, why }) => `${name}: ${where}: ${why}; passed over`);
    if (malformed > this.malformed.length) {
      lines.push(`${name}: ${malformed} malformed records in all; only the first are named`);
    }
    if (widened > 0) {
      lines.push(
        `${name}: ${counted(widened, 'request')} not aligned to sectors of 512 bytes; widened to whole sectors`,
      );
    }
    const leftOut = this.#leftOut();
    if (leftOut !== '') lines.push(`${name}: left out: ${leftOut}`);
    return lines;
  }

  /** Events that are neither requests nor unwanted by the caller's choice of action and device. */
  #leftOut(): string {
    const { withoutOperation, zoneManagement, passthrough, skippedZeroLength } = this.counts;
    const kinds: [number, string, string][] = [
      [withoutOperation, 'record without an operation', 'records without an operation'],
      [zoneManagement, 'command to a zone', 'commands to zones'],
      [passthrough, 'command that neither reads nor writes', 'commands that neither read nor write'],
      // Of completions it is the second one of each flush, that of its carrier.
      [this.#action === 'complete' ? 0 : skippedZeroLength, 'request without length', 'requests without length'],
    ];
    return kinds
      .filter(([count]) => count > 0)
      .map(([count, one, many]) => counted(count, one, many))
      .join(', ');
  }

  /** Throws BAD_TRACE when `name`, now read to its end, has no request to deliver; says what it has instead. */
  checkNotEmpty(name: string): void {
    const action = this.#action;
    if (this.counts.selected > 0) return;
    const records = counted(this.counts.records, 'record');
    const others = Object.entries(this.actions).filter(([other, count]) => other !== action && count > 0);
    if (others.length > 0) {
      const list = others.map(([other, count]) => `${count} of ${other}`).join(' and ');
      throw new PcacheError(
        'BAD_TRACE',
        `${name}: no request in ${records} has the action ${action}, but ${list}; choose one of these with --action`,
      );
    }
    const leftOut = this.#leftOut();
    throw new PcacheError(
      'BAD_TRACE',
      `${name}: holds no requests, only ${records}${leftOut === '' ? '' : ` (${leftOut})`}; a trace has at least one request`,
    );
  }

  /** Throws BAD_TRACE when not one record of `name`, now read to its end, could be read. */
  checkReadable(name: string): void {
    const { malformed, records, notify } = this.counts;
    if (malformed === 0 || malformed < records - notify) return;
    const first = this.malformed[0];
    throw new PcacheError(
      'BAD_TRACE',
      `${name}: none of its ${counted(records, 'record')} can be read, at ${first.where} for instance: ${first.why}; ` +
        'if it is another format say so with --format or --columns',
    );
  }

  /** Throws BAD_TRACE when the devices in `name`, now read to its end, do not say whose requests are meant. */
  checkDevices(name: string): void {
    const { wantedName } = this.devices;
    const counts = this.devices.counts();
    if (this.ambiguous) {
      throw new PcacheError(
        'BAD_TRACE',
        `${name}: holds requests of several devices: ${listDevices(counts)}; choose one with --device`,
      );
    }
    if (wantedName === undefined || counts.has(wantedName) || counts.size === 0) return;
    throw new PcacheError(
      'BAD_TRACE',
      `${name}: holds no requests of device ${wantedName}, but of ${listDevices(counts)}; choose one of these with --device`,
    );
  }
}

/** Those with the most requests first when there are many. */
function listDevices(counts: ReadonlyMap<string, number>): string {
  const all = [...counts];
  if (all.length > DEVICES_LISTED) all.sort(([, a], [, b]) => b - a);
  const list = all
    .slice(0, DEVICES_LISTED)
    .map(
      ([name, count]) =>
        `${name === '' ? 'one without a name' : shownText(name, DEVICE_CHARACTERS_MAX)} (${counted(count, 'request')})`,
    );
  if (all.length > DEVICES_LISTED) list.push(`${all.length - DEVICES_LISTED} more`);
  return list.join(', ');
}
