/**
 * CloudPhysics' vscsi traces, little-endian records of a virtual disk's SCSI commands.
 * Version 1, 32 bytes: serial number u32, length in bytes u32, scatter-gather entries u32, SCSI operation code u16,
 * version u16 (1 in its high byte), sector u64, time in µs u64.
 * Version 2, 40 bytes: operation code u16, version u16 (2), serial number u32, length u32, entries u32, sector u64,
 * time u64, response time in µs u64.
 */
import { TraceInput } from './input.js';
import type { InputContext, OpenedFile } from './input.js';
import { SECTOR_BYTES } from './sink.js';
import { TraceOp } from './types.js';
import { ReorderWindow } from './window.js';

const TWO_32 = 2 ** 32;
const MICROSECOND_NS = 1000;
/** A trace is recognised by so many of its records at most. */
const RECORDS_LOOKED_AT = 64;

export interface VscsiLayout {
  readonly version: 1 | 2;
  readonly recordBytes: number;
  readonly command: number;
  readonly versionAt: number;
  readonly serial: number;
  readonly length: number;
  readonly sector: number;
  readonly time: number;
}

export const VSCSI_LAYOUTS: readonly VscsiLayout[] = [
  { version: 1, recordBytes: 32, serial: 0, length: 4, command: 12, versionAt: 14, sector: 16, time: 24 },
  { version: 2, recordBytes: 40, command: 0, versionAt: 2, serial: 4, length: 8, sector: 16, time: 24 },
];

/** SCSI operation codes: READ(6), (10), (12), (16); WRITE and WRITE AND VERIFY of these; SYNCHRONIZE CACHE. */
const OP_BY_COMMAND = new Map<number, number>([
  ...[0x08, 0x28, 0xa8, 0x88].map((command) => [command, TraceOp.read] as const),
  ...[0x0a, 0x2a, 0xaa, 0x8a, 0x2e, 0xae, 0x8e].map((command) => [command, TraceOp.write] as const),
  ...[0x35, 0x91].map((command) => [command, TraceOp.flush] as const),
]);

/** The version of the vscsi trace that begins with `head`, if it is one: all but a tenth of its records say so. */
export function vscsiLayoutOf(head: Uint8Array): VscsiLayout | undefined {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  return VSCSI_LAYOUTS.find(({ version, recordBytes, versionAt, command }) => {
    const records = Math.min(RECORDS_LOOKED_AT, Math.floor(head.length / recordBytes));
    let fitting = 0;
    for (let record = 0; record < records; record++) {
      const at = record * recordBytes;
      const fits = view.getUint16(at + versionAt, true) >>> 8 === version && view.getUint16(at + command, true) < 0x100;
      if (fits) fitting++;
    }
    return records > 0 && fitting >= 0.9 * records;
  });
}

export class VscsiInput extends TraceInput {
  readonly window: ReorderWindow;
  readonly format: string;
  readonly #layout: VscsiLayout;
  #records = 0;
  #originHigh = -1;
  #originLow = 0;

  constructor(file: OpenedFile, context: InputContext, layout: VscsiLayout) {
    super(file, context);
    this.window = new ReorderWindow(2 * context.reorderRecords);
    this.#layout = layout;
    this.format = `CloudPhysics vscsi version ${layout.version}`;
  }

  decode(): void {
    const { window, end } = this;
    const { recordBytes } = this.#layout;
    let at = this.start;
    while (end - at >= recordBytes && window.count < window.capacity) {
      this.sink.counts.records++;
      this.#records++;
      const wrong = this.#take(at);
      if (wrong !== undefined) this.sink.reject(this.name, this.placeOf(at), wrong);
      at += recordBytes;
    }
    this.start = at;
  }

  #take(at: number): string | undefined {
    const { view, sink } = this;
    const layout = this.#layout;
    const version = view.getUint16(at + layout.versionAt, true) >>> 8;
    if (version !== layout.version) return `its version is ${version} instead of ${layout.version}`;
    const op = OP_BY_COMMAND.get(view.getUint16(at + layout.command, true));
    if (op === undefined) {
      sink.counts.passthrough++;
      return undefined;
    }
    const timeLow = view.getUint32(at + layout.time, true);
    const timeHigh = view.getUint32(at + layout.time + 4, true);
    if (this.#originHigh < 0) {
      this.#originHigh = timeHigh;
      this.#originLow = timeLow;
    }
    const timeNs = ((timeHigh - this.#originHigh) * TWO_32 + (timeLow - this.#originLow)) * MICROSECOND_NS;
    const sector = view.getUint32(at + layout.sector + 4, true) * TWO_32 + view.getUint32(at + layout.sector, true);
    const isFlush = op === TraceOp.flush;
    const device = sink.devices.indexOfNumber(0, () => '');
    if (!sink.wants(device)) return undefined;
    const sequence = view.getUint32(at + layout.serial, true);
    const lengthBytes = isFlush ? 0 : view.getUint32(at + layout.length, true);
    return sink.request(this.window, device, timeNs, sequence, op, 0, isFlush ? 0 : sector * SECTOR_BYTES, lengthBytes);
  }

  protected atEnd(cutShort: boolean): string | undefined {
    return this.cutShortAt(cutShort, this.#records);
  }
}
