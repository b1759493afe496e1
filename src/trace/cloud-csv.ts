/**
 * The CSV files of three published collections of block traces. None has a header of its own; one that somebody put
 * there, with the names of the columns, is passed over.
 * MSR Cambridge (SNIA): Timestamp (100 ns since 1601),Hostname,DiskNumber,Type,Offset,Size (bytes),ResponseTime.
 * Alibaba: device_id,opcode,offset,length (bytes),timestamp (µs).
 * Tencent: Timestamp (s since 1970),Offset,Size (sectors),IOType,VolumeID.
 */
import { Char, Epoch } from './cursor.js';
import type { Cursor } from './cursor.js';
import { NOT_A_RECORD } from './lines.js';
import type { LineFormat } from './lines.js';
import { SECTOR_BYTES } from './sink.js';
import type { RequestSink } from './sink.js';
import { TraceOp } from './types.js';
import type { ReorderWindow } from './window.js';

const TICK_NS = 100;
const MICROSECOND_NS = 1000;
const SECOND_NS = 1e9;

const NO_TIME = 'it has no time where one belongs';
const NO_RANGE = 'it has no offset and length';
const NO_OP = 'it says neither read nor write';
const NO_DEVICE = 'it has no device';

/** `a,b`: two numbers. @returns false when they are not there */
class Range {
  first = -1;
  second = -1;

  read(line: Cursor): boolean {
    this.first = line.digits();
    if (this.first < 0 || !line.skip(Char.comma)) return false;
    this.second = line.digits();
    return this.second >= 0;
  }
}

/** A line that begins with a letter, first in its file, is a header. */
class Header {
  #first = true;

  is(line: Cursor): boolean {
    const first = this.#first;
    this.#first = false;
    const letter = line.peek() | 0x20;
    return first && letter >= 0x61 && letter <= 0x7a;
  }
}

export class MsrFormat implements LineFormat {
  readonly label = 'MSR Cambridge CSV';
  readonly #header = new Header();
  readonly #epoch = new Epoch();
  readonly #range = new Range();
  /** `HOST_DISK`, as the collection's files are named. */
  #name = new Uint8Array(64);

  take(line: Cursor, sink: RequestSink, window: ReorderWindow): string | undefined {
    if (this.#header.is(line)) return NOT_A_RECORD;
    if (!line.longDigits() || !line.skip(Char.comma)) return NO_TIME;
    const timeNs = this.#epoch.since(line) * TICK_NS;
    const hostAt = line.at;
    line.skipTo(Char.comma);
    const hostEnd = line.at;
    if (!line.skip(Char.comma)) return NO_DEVICE;
    const diskAt = line.at;
    line.skipTo(Char.comma);
    const diskEnd = line.at;
    if (!line.skip(Char.comma) || diskEnd === diskAt) return NO_DEVICE;
    const typeAt = line.at;
    line.skipTo(Char.comma);
    const op = line.spells('read', typeAt) ? TraceOp.read : line.spells('write', typeAt) ? TraceOp.write : -1;
    if (op < 0) return NO_OP;
    const range = this.#range;
    if (!line.skip(Char.comma) || !range.read(line)) return NO_RANGE;
    if (!line.atEnd) {
      if (!line.skip(Char.comma) || line.digits() < 0 || !line.atEnd) return 'its response time is no number';
    }
    const device = this.#deviceOf(line.bytes, hostAt, hostEnd, diskAt, diskEnd, sink);
    if (!sink.wants(device)) return undefined;
    return sink.request(window, device, timeNs, 0, op, 0, range.first, range.second);
  }

  #deviceOf(
    bytes: Uint8Array,
    hostAt: number,
    hostEnd: number,
    diskAt: number,
    diskEnd: number,
    sink: RequestSink,
  ): number {
    const length = hostEnd - hostAt + 1 + (diskEnd - diskAt);
    if (length > this.#name.length) this.#name = new Uint8Array(2 * length);
    const name = this.#name;
    let at = 0;
    for (let from = hostAt; from < hostEnd; from++) name[at++] = bytes[from];
    name[at++] = 0x5f;
    for (let from = diskAt; from < diskEnd; from++) name[at++] = bytes[from];
    return sink.devices.indexOfBytes(name, 0, at);
  }
}

export class AlibabaFormat implements LineFormat {
  readonly label = 'Alibaba CSV';
  readonly #header = new Header();
  readonly #epoch = new Epoch();
  readonly #range = new Range();

  take(line: Cursor, sink: RequestSink, window: ReorderWindow): string | undefined {
    if (this.#header.is(line)) return NOT_A_RECORD;
    const deviceNumber = line.digits();
    if (!(deviceNumber >= 0 && deviceNumber <= Number.MAX_SAFE_INTEGER) || !line.skip(Char.comma)) return NO_DEVICE;
    const opAt = line.at;
    line.skipTo(Char.comma);
    const op = line.spells('r', opAt) ? TraceOp.read : line.spells('w', opAt) ? TraceOp.write : -1;
    if (op < 0) return NO_OP;
    const range = this.#range;
    if (!line.skip(Char.comma) || !range.read(line)) return NO_RANGE;
    if (!line.skip(Char.comma) || !line.longDigits() || !line.atEnd) return NO_TIME;
    const timeNs = this.#epoch.since(line) * MICROSECOND_NS;
    const device = sink.devices.indexOfNumber(deviceNumber);
    if (!sink.wants(device)) return undefined;
    return sink.request(window, device, timeNs, 0, op, 0, range.first, range.second);
  }
}

export class TencentFormat implements LineFormat {
  readonly label = 'Tencent CSV';
  readonly #header = new Header();
  readonly #epoch = new Epoch();
  readonly #range = new Range();

  take(line: Cursor, sink: RequestSink, window: ReorderWindow): string | undefined {
    if (this.#header.is(line)) return NOT_A_RECORD;
    if (!line.longDigits() || !line.skip(Char.comma)) return NO_TIME;
    const timeNs = this.#epoch.since(line) * SECOND_NS;
    const range = this.#range;
    if (!range.read(line) || !line.skip(Char.comma)) return NO_RANGE;
    const type = line.digits();
    if ((type !== 0 && type !== 1) || !line.skip(Char.comma)) return NO_OP;
    const volume = line.digits();
    if (!(volume >= 0 && volume <= Number.MAX_SAFE_INTEGER) || !line.atEnd) return NO_DEVICE;
    const op = type === 0 ? TraceOp.read : TraceOp.write;
    const device = sink.devices.indexOfNumber(volume);
    if (!sink.wants(device)) return undefined;
    const offsetBytes = range.first * SECTOR_BYTES;
    return sink.request(window, device, timeNs, 0, op, 0, offsetBytes, range.second * SECTOR_BYTES);
  }
}
