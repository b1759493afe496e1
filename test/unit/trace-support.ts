/** What the trace tests share: the fixtures, the making of records, and the listing of what a reader delivers. */
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll } from 'vitest';
import { openTrace, TraceFlag, TraceOp } from '../../src/trace/index.js';
import type { TraceOptions, TraceReader, TraceTally } from '../../src/trace/index.js';

export const FIXTURES = new URL('../../fixtures/traces/', import.meta.url).pathname;
export const RECORDINGS = ['ext4-sqlite-git', 'pgbench'] as const;
export const ACTIONS = ['queue', 'issue', 'complete'] as const;

/** A directory of its own for a test file, removed at its end. */
export function temporaryDirectory(): string {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'pcache-trace-')));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export function unpackedFixture(name: string, cpu: number): Buffer {
  return gunzipSync(readFileSync(join(FIXTURES, `${name}.blktrace.${cpu}.gz`)));
}

export interface RecordFields {
  sequence?: number;
  timeNs?: bigint;
  sector?: bigint;
  bytes?: number;
  /** The whole action word; `bits` and `number` make one. */
  action?: number;
  device?: number;
  cpu?: number;
  error?: number;
  pdu?: number;
  magic?: number;
}

export const Bit = {
  read: 1,
  write: 2,
  flush: 4,
  sync: 8,
  queue: 16,
  issue: 64,
  complete: 128,
  fs: 256,
  pc: 512,
  notify: 1024,
  ahead: 2048,
  meta: 4096,
  discard: 8192,
  drvData: 16384,
  fua: 32768,
};

/** An action word out of category bits and the number of the action. */
export function act(number: number, ...bits: number[]): number {
  return (bits.reduce((all, bit) => all | bit, 0) * 65536 + number) >>> 0;
}

export const SDA = 8 << 20;
export const SDB = (8 << 20) | 16;

export function record(fields: RecordFields, littleEndian = true): Buffer {
  const pdu = fields.pdu ?? 0;
  const buffer = Buffer.alloc(48 + pdu, 0xa5);
  const view = new DataView(buffer.buffer, buffer.byteOffset, 48);
  view.setUint32(0, fields.magic ?? 0x65617407, littleEndian);
  view.setUint32(4, fields.sequence ?? 0, littleEndian);
  view.setBigUint64(8, fields.timeNs ?? 0n, littleEndian);
  view.setBigUint64(16, fields.sector ?? 0n, littleEndian);
  view.setUint32(24, fields.bytes ?? 4096, littleEndian);
  view.setUint32(28, fields.action ?? act(1, Bit.queue, Bit.write), littleEndian);
  view.setUint32(32, 77, littleEndian);
  view.setUint32(36, fields.device ?? SDA, littleEndian);
  view.setUint32(40, fields.cpu ?? 0, littleEndian);
  view.setUint16(44, fields.error ?? 0, littleEndian);
  view.setUint16(46, pdu, littleEndian);
  return buffer;
}

export function recording(...fields: RecordFields[]): Buffer {
  return Buffer.concat(fields.map((one) => record(one)));
}

/** The same recording as a machine of the other byte order would have made it. */
export function swapped(littleEndian: Buffer): Buffer {
  const result = Buffer.from(littleEndian);
  for (let at = 0; at < result.length;) {
    const next = at + 48 + littleEndian.readUInt16LE(at + 46);
    for (const [offset, width] of [
      [0, 4],
      [4, 4],
      [8, 8],
      [16, 8],
      [24, 4],
      [28, 4],
      [32, 4],
      [36, 4],
      [40, 4],
      [44, 2],
      [46, 2],
    ]) {
      result.subarray(at + offset, at + offset + width).reverse();
    }
    at = next;
  }
  return result;
}

/** RWBS as blkparse writes it, but without the letter of a flush. */
export function rwbs(op: number, flags: number): string {
  const letter = { [TraceOp.read]: 'R', [TraceOp.write]: 'W', [TraceOp.discard]: 'D', [TraceOp.flush]: '' }[op];
  return (
    (op === TraceOp.flush || flags & TraceFlag.preflush ? 'F' : '') +
    letter +
    (flags & TraceFlag.fua ? 'F' : '') +
    (flags & TraceFlag.ahead ? 'A' : '') +
    (flags & TraceFlag.sync ? 'S' : '') +
    (flags & TraceFlag.meta ? 'M' : '')
  );
}

export interface ReadTrace {
  /** `timeNs rwbs sector bytes` of each request. */
  lines: string[];
  counts: TraceTally;
  warnings: string[];
  reader: TraceReader;
}

export async function readTrace(path: string, options: Partial<TraceOptions> = {}): Promise<ReadTrace> {
  const reader = await openTrace(path, { action: 'queue', ...options });
  const lines: string[] = [];
  for await (const batch of reader.batches()) {
    for (let i = 0; i < batch.count; i++) {
      lines.push(
        `${batch.timeNs[i]} ${rwbs(batch.op[i], batch.flags[i])} ${batch.offsetBytes[i] / 512} ${batch.lengthBytes[i]}`,
      );
    }
  }
  return { lines, counts: reader.counts, warnings: reader.warnings, reader };
}

/** Open files of this process below `directory`. */
export function openFilesIn(directory: string): string[] {
  const found: string[] = [];
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      if (target.startsWith(directory)) found.push(target);
    } catch {
      // The descriptor of the listing itself is gone by now.
    }
  }
  return found;
}
