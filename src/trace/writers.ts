/**
 * Requests in each of the formats that are written. A writer says what it had to leave out; what the formats hold is
 * in docs/traces.md.
 */
import { csvNames, fileNames, hostNames, kernelNames, numberNames } from './names.js';
import { ORACLE_FIELDS, ORACLE_RECORD_BYTES } from './oracle-general.js';
import { SECTOR_BYTES } from './sink.js';
import { TraceFlag, TraceOp } from './types.js';
import type { DeviceBatch } from './types.js';
import { VSCSI_LAYOUTS } from './vscsi.js';
import type { VscsiLayout } from './vscsi.js';

export const WRITE_FORMATS = [
  'csv',
  'blkparse',
  'iolog2',
  'iolog3',
  'msr',
  'alibaba',
  'tencent',
  'vscsi1',
  'vscsi2',
  'oracle-general',
] as const;
export type WriteFormat = (typeof WRITE_FORMATS)[number];

/** One of these times makes a format's unit of time. */
const SECOND_NS = 1e9;
const MILLISECOND_NS = 1e6;
const MICROSECOND_NS = 1000;
const TICK_NS = 100;
/** The beginning of a trace in formats whose times must look like times: 1970 in ticks since 1601, and 1 Oct 2018. */
const TICKS_HIGH_1970 = 116_444_736;
const TICKS_LOW_UNIT = 1e9;
const TENCENT_BEGIN_SECONDS = 1_538_323_200;
/** `length` is 32 bits wide in vscsi. */
const VSCSI_LENGTH_MAX = 2 ** 32 - 1;

export interface WriteTally {
  /** Requests written. */
  requests: number;
  /** Requests that the format cannot hold: flushes, discards, and what is too long. */
  flushesLeftOut: number;
  discardsLeftOut: number;
  tooLongLeftOut: number;
  /** Requests written without their flags. */
  withoutFlags: number;
  /** Writes that the format does not tell from reads. */
  writesAsReads: number;
}

/** What each format holds. */
interface FormatTraits {
  readonly flushes: boolean;
  readonly discards: boolean;
  readonly flags: boolean;
  readonly devices: boolean;
  readonly lengthMax: number;
  /** Times are rounded down to a multiple of it. */
  readonly timeUnitNs: number;
  readonly binary: boolean;
  /** Whether it tells writes from reads. */
  readonly tellsWrites: boolean;
}

const CSV_OF_VENDORS = {
  flushes: false,
  discards: false,
  flags: false,
  devices: true,
  lengthMax: Infinity,
  binary: false,
  tellsWrites: true,
};
const VSCSI = {
  flushes: true,
  discards: false,
  flags: false,
  devices: false,
  lengthMax: VSCSI_LENGTH_MAX,
  timeUnitNs: MICROSECOND_NS,
  binary: true,
  tellsWrites: true,
};
const IOLOG = { ...CSV_OF_VENDORS, flushes: true, discards: true, timeUnitNs: MICROSECOND_NS };
const WHOLE = { ...IOLOG, flags: true, timeUnitNs: 1 };

export const WRITE_TRAITS: Readonly<Record<WriteFormat, FormatTraits>> = {
  'csv': WHOLE,
  'blkparse': WHOLE,
  'iolog2': { ...IOLOG, timeUnitNs: MILLISECOND_NS },
  'iolog3': IOLOG,
  'msr': { ...CSV_OF_VENDORS, timeUnitNs: TICK_NS },
  'alibaba': { ...CSV_OF_VENDORS, timeUnitNs: MICROSECOND_NS },
  'tencent': { ...CSV_OF_VENDORS, timeUnitNs: SECOND_NS },
  'vscsi1': VSCSI,
  'vscsi2': VSCSI,
  'oracle-general': { ...VSCSI, flushes: false, timeUnitNs: SECOND_NS, tellsWrites: false },
};

/** One format's way with a request that it can hold. */
interface Encoder {
  begin(): string;
  /** @param timeUnits time since the first request in the format's unit, a whole number */
  line(batch: DeviceBatch, i: number, timeUnits: number, deviceNames: readonly string[]): string;
  end(timeUnits: number): string;
}

export class TraceWriter {
  readonly tally: WriteTally = {
    requests: 0,
    flushesLeftOut: 0,
    discardsLeftOut: 0,
    tooLongLeftOut: 0,
    withoutFlags: 0,
    writesAsReads: 0,
  };
  readonly #traits: FormatTraits;
  readonly #encoder: Encoder;
  readonly #text: 'utf8' | 'latin1';
  #begun = false;
  #timeUnits = 0;

  constructor(format: WriteFormat) {
    this.#traits = WRITE_TRAITS[format];
    this.#encoder = ENCODERS[format]();
    // Binary records are put together as strings of bytes, like the lines of the others.
    this.#text = this.#traits.binary ? 'latin1' : 'utf8';
  }

  /** @returns what to write for these requests */
  encode(batch: DeviceBatch, deviceNames: readonly string[]): Uint8Array {
    let text = this.#begin();
    for (let i = 0; i < batch.count; i++) {
      if (!this.#holds(batch.op[i], batch.lengthBytes[i])) continue;
      if (batch.flags[i] !== 0 && !this.#traits.flags) this.tally.withoutFlags++;
      if (this.#isWriteAsRead(batch.op[i])) this.tally.writesAsReads++;
      this.tally.requests++;
      this.#timeUnits = Math.floor(batch.timeNs[i] / this.#traits.timeUnitNs);
      text += this.#encoder.line(batch, i, this.#timeUnits, deviceNames);
    }
    return Buffer.from(text, this.#text);
  }

  /** @returns what to write at the end */
  finish(): Uint8Array {
    return Buffer.from(this.#begin() + this.#encoder.end(this.#timeUnits), this.#text);
  }

  #begin(): string {
    if (this.#begun) return '';
    this.#begun = true;
    return this.#encoder.begin();
  }

  #isWriteAsRead(op: number): boolean {
    return op === TraceOp.write && !this.#traits.tellsWrites;
  }

  #holds(op: number, lengthBytes: number): boolean {
    if (op === TraceOp.flush && !this.#traits.flushes) this.tally.flushesLeftOut++;
    else if (op === TraceOp.discard && !this.#traits.discards) this.tally.discardsLeftOut++;
    else if (lengthBytes > this.#traits.lengthMax) this.tally.tooLongLeftOut++;
    else return true;
    return false;
  }
}

/** A format without beginning and end. */
function lines(line: Encoder['line']): Encoder {
  return { begin: () => '', line, end: () => '' };
}

const ENCODERS: Readonly<Record<WriteFormat, () => Encoder>> = {
  'csv': csvEncoder,
  'blkparse': blkparseEncoder,
  'iolog2': () => iologEncoder(2),
  'iolog3': () => iologEncoder(3),
  'msr': () => {
    const names = hostNames();
    return lines((batch, i, ticks, deviceNames) => {
      const high = TICKS_HIGH_1970 + Math.floor(ticks / TICKS_LOW_UNIT);
      const low = String(ticks % TICKS_LOW_UNIT).padStart(9, '0');
      const type = batch.op[i] === TraceOp.read ? 'Read' : 'Write';
      const name = names.of(batch.device[i], deviceNames);
      return `${high}${low},${name},${type},${batch.offsetBytes[i]},${batch.lengthBytes[i]},0\n`;
    });
  },
  'alibaba': () => {
    const names = numberNames();
    return lines((batch, i, microseconds, deviceNames) => {
      const op = batch.op[i] === TraceOp.read ? 'R' : 'W';
      const name = names.of(batch.device[i], deviceNames);
      return `${name},${op},${batch.offsetBytes[i]},${batch.lengthBytes[i]},${microseconds}\n`;
    });
  },
  'tencent': () => {
    const names = numberNames();
    return lines((batch, i, seconds, deviceNames) => {
      const type = batch.op[i] === TraceOp.read ? 0 : 1;
      const name = names.of(batch.device[i], deviceNames);
      const [sector, sectors] = [batch.offsetBytes[i] / SECTOR_BYTES, batch.lengthBytes[i] / SECTOR_BYTES];
      return `${TENCENT_BEGIN_SECONDS + seconds},${sector},${sectors},${type},${name}\n`;
    });
  },
  'vscsi1': () => vscsiEncoder(VSCSI_LAYOUTS[0]),
  'vscsi2': () => vscsiEncoder(VSCSI_LAYOUTS[1]),
  'oracle-general': oracleGeneralEncoder,
};

function csvEncoder(): Encoder {
  const names = csvNames();
  const ops = Object.keys(TraceOp);
  const flagNames = Array.from({ length: 32 }, (_, flags) =>
    Object.entries(TraceFlag)
      .filter(([, bit]) => (flags & bit) !== 0)
      .map(([name]) => name)
      .join('|'),
  );
  return {
    begin: () => 'time_ns,op,offset_bytes,length_bytes,flags,device\n',
    line: (batch, i, timeNs, deviceNames) =>
      `${timeNs},${ops[batch.op[i]]},${batch.offsetBytes[i]},${batch.lengthBytes[i]},` +
      `${flagNames[batch.flags[i]]},${names.of(batch.device[i], deviceNames)}\n`,
    end: () => '',
  };
}

/** Queue events of one process on one CPU. */
function blkparseEncoder(): Encoder {
  const names = kernelNames();
  let sequence = 0;
  return lines((batch, i, timeNs, deviceNames) => {
    const [major, minor] = names.of(batch.device[i], deviceNames).split(',');
    const device = `${major.padStart(3)},${minor.padEnd(3)}`;
    const number = String(++sequence).padStart(8);
    const seconds = String(Math.floor(timeNs / SECOND_NS)).padStart(5);
    const nanoseconds = String(timeNs % SECOND_NS).padStart(9, '0');
    const rwbs = rwbsOf(batch.op[i], batch.flags[i]).padStart(3);
    const range =
      batch.op[i] === TraceOp.flush
        ? ''
        : `${batch.offsetBytes[i] / SECTOR_BYTES} + ${batch.lengthBytes[i] / SECTOR_BYTES} `;
    return `${device}  0 ${number} ${seconds}.${nanoseconds}     0  Q ${rwbs} ${range}[pcache]\n`;
  });
}

function rwbsOf(op: number, flags: number): string {
  const letter = op === TraceOp.read ? 'R' : op === TraceOp.write ? 'W' : op === TraceOp.discard ? 'D' : 'N';
  return (
    (op === TraceOp.flush || (flags & TraceFlag.preflush) !== 0 ? 'F' : '') +
    letter +
    ((flags & TraceFlag.fua) !== 0 ? 'F' : '') +
    ((flags & TraceFlag.ahead) !== 0 ? 'A' : '') +
    ((flags & TraceFlag.sync) !== 0 ? 'S' : '') +
    ((flags & TraceFlag.meta) !== 0 ? 'M' : '')
  );
}

function iologEncoder(version: 2 | 3): Encoder {
  const names = fileNames();
  const opened = new Set<string>();
  const actions = ['read', 'write', 'sync', 'trim'];
  let waitedMilliseconds = 0;
  const at = (time: number): string => (version === 3 ? `${time} ` : '');
  return {
    begin: () => `fio version ${version} iolog\n`,
    line: (batch, i, units, deviceNames) => {
      const name = names.of(batch.device[i], deviceNames);
      const time = at(units);
      let text = '';
      if (!opened.has(name)) {
        opened.add(name);
        text = `${time}${name} add\n${time}${name} open\n`;
      }
      // From the beginning, whatever the manual says: see iolog.ts.
      if (version === 2 && units > waitedMilliseconds) {
        text += `${name} wait ${units} 0\n`;
        waitedMilliseconds = units;
      }
      return `${text}${time}${name} ${actions[batch.op[i]]} ${batch.offsetBytes[i]} ${batch.lengthBytes[i]}\n`;
    },
    end: (units) => [...opened].map((name) => `${at(units)}${name} close\n`).join(''),
  };
}

/** READ(16), WRITE(16) and SYNCHRONIZE CACHE(16). */
const VSCSI_COMMANDS = { [TraceOp.read]: 0x88, [TraceOp.write]: 0x8a, [TraceOp.flush]: 0x91 } as const;

function vscsiEncoder(layout: VscsiLayout): Encoder {
  let serial = 0;
  const record = Buffer.alloc(layout.recordBytes);
  return lines((batch, i, microseconds) => {
    const sector = batch.offsetBytes[i] / SECTOR_BYTES;
    record.writeUInt16LE(VSCSI_COMMANDS[batch.op[i] as keyof typeof VSCSI_COMMANDS], layout.command);
    record.writeUInt16LE(layout.version << 8, layout.versionAt);
    record.writeUInt32LE(serial++ % 2 ** 32, layout.serial);
    record.writeUInt32LE(batch.lengthBytes[i], layout.length);
    writeU64(record, layout.sector, sector);
    writeU64(record, layout.time, microseconds);
    return record.toString('latin1');
  });
}

/**
 * Each record says when its object comes next, so all are kept to the end: 24 bytes each, and a number for each sector
 * that a request begins at.
 */
function oracleGeneralEncoder(): Encoder {
  let records = Buffer.alloc(ORACLE_RECORD_BYTES * 1024);
  const latest = new Map<number, number>();
  let count = 0;
  return {
    begin: () => '',
    line: (batch, i, seconds) => {
      const at = count * ORACLE_RECORD_BYTES;
      if (at === records.length) records = Buffer.concat([records, Buffer.alloc(records.length)]);
      const sector = batch.offsetBytes[i] / SECTOR_BYTES;
      records.writeUInt32LE(seconds % 2 ** 32, at + ORACLE_FIELDS.time);
      writeU64(records, at + ORACLE_FIELDS.object, sector);
      records.writeUInt32LE(batch.lengthBytes[i], at + ORACLE_FIELDS.size);
      records.writeBigInt64LE(-1n, at + ORACLE_FIELDS.next);
      const before = latest.get(sector);
      // Counted from 1, as libCacheSim counts the requests it has read.
      if (before !== undefined) {
        records.writeBigInt64LE(BigInt(count + 1), before * ORACLE_RECORD_BYTES + ORACLE_FIELDS.next);
      }
      latest.set(sector, count++);
      return '';
    },
    end: () => records.toString('latin1', 0, count * ORACLE_RECORD_BYTES),
  };
}

function writeU64(target: Buffer, at: number, value: number): void {
  target.writeUInt32LE(value % 2 ** 32, at);
  target.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}
