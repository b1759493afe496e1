/**
 * libCacheSim's oracleGeneral, little-endian records of 24 bytes: time u32 (s), object u64, size u32 (bytes), and i64
 * the number of the request in which the object comes next, -1 for never. Objects of block traces are sectors of 512
 * bytes, as libCacheSim's own conversion of vscsi makes them. It does not tell reads from writes: all count as reads.
 */
import { TraceInput } from './input.js';
import type { InputContext, OpenedFile } from './input.js';
import { SECTOR_BYTES } from './sink.js';
import { TraceOp } from './types.js';
import { ReorderWindow } from './window.js';

export const ORACLE_RECORD_BYTES = 24;
export const ORACLE_FIELDS = { time: 0, object: 4, size: 12, next: 16 } as const;
const TWO_32 = 2 ** 32;
const SECOND_NS = 1e9;
/** It is recognised by so many of its records, at most and at least. */
const RECORDS_LOOKED_AT = 256;
const RECORDS_MIN = 1;
const SIZE_MAX = 2 ** 30;

/** All records must have times that do not fall, sensible sizes, and a next request that is behind them. */
export function looksLikeOracleGeneral(head: Uint8Array): boolean {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const records = Math.min(RECORDS_LOOKED_AT, Math.floor(head.length / ORACLE_RECORD_BYTES));
  if (records < RECORDS_MIN) return false;
  let lastTime = 0;
  for (let record = 0; record < records; record++) {
    const at = record * ORACLE_RECORD_BYTES;
    const time = view.getUint32(at + ORACLE_FIELDS.time, true);
    const size = view.getUint32(at + ORACLE_FIELDS.size, true);
    const next = view.getBigInt64(at + ORACLE_FIELDS.next, true);
    const object = view.getUint32(at + ORACLE_FIELDS.object + 4, true);
    const isNext = next === -1n || next === 0x7fffffffffffffffn || (next > BigInt(record) && next < 2n ** 40n);
    if (time < lastTime || size === 0 || size > SIZE_MAX || object >= 2 ** 12 || !isNext) return false;
    lastTime = time;
  }
  return true;
}

export class OracleGeneralInput extends TraceInput {
  readonly window: ReorderWindow;
  readonly format = 'libCacheSim oracleGeneral';
  #records = 0;
  #originSeconds = -1;

  constructor(file: OpenedFile, context: InputContext) {
    super(file, context);
    this.window = new ReorderWindow(2 * context.reorderRecords);
  }

  decode(): void {
    const { window, end } = this;
    let at = this.start;
    while (end - at >= ORACLE_RECORD_BYTES && window.count < window.capacity) {
      this.sink.counts.records++;
      const wrong = this.#take(at);
      if (wrong !== undefined) this.sink.reject(this.name, this.placeOf(at), wrong);
      this.#records++;
      at += ORACLE_RECORD_BYTES;
    }
    this.start = at;
  }

  #take(at: number): string | undefined {
    const { view, sink } = this;
    const device = sink.devices.indexOfNumber(0, () => '');
    if (!sink.wants(device)) return undefined;
    const seconds = view.getUint32(at + ORACLE_FIELDS.time, true);
    if (this.#originSeconds < 0) this.#originSeconds = seconds;
    const sector =
      view.getUint32(at + ORACLE_FIELDS.object + 4, true) * TWO_32 + view.getUint32(at + ORACLE_FIELDS.object, true);
    const size = view.getUint32(at + ORACLE_FIELDS.size, true);
    const timeNs = (seconds - this.#originSeconds) * SECOND_NS;
    return sink.request(this.window, device, timeNs, 0, TraceOp.read, 0, sector * SECTOR_BYTES, size);
  }

  protected atEnd(cutShort: boolean): string | undefined {
    return this.cutShortAt(cutShort, this.#records);
  }
}
