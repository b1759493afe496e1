/**
 * The record of a blktrace recording: a fixed header (`struct blk_io_trace` of the kernel's `linux/blktrace_api.h`,
 * version 7, or `struct blk_io_trace2`, version 8) in the byte order of the machine that recorded, followed by
 * `pdu_len` bytes that depend on the action and mean nothing here. Constants and pure functions only.
 */
import type { TraceAction } from './types.js';

/** Three letters and the version of the record in the low byte. */
export const MAGIC_LETTERS = 0x65617400;

/** Byte offsets of the fields of the header. */
export interface RecordLayout {
  readonly version: number;
  readonly headerBytes: number;
  readonly bytes: number;
  /** Low 32 bits; the others are at `actionHigh` where there are any. */
  readonly action: number;
  readonly actionHigh: number | undefined;
  readonly device: number;
  readonly cpu: number;
  readonly error: number;
  readonly pduLength: number;
}

/** What the versions have in common: offsets of the low halves of 64-bit fields in little-endian records. */
export const Field = { magic: 0, sequence: 4, timeLow: 8, sectorLow: 16 } as const;

const VERSION_7: RecordLayout = {
  version: 7,
  headerBytes: 48,
  bytes: 24,
  action: 28,
  actionHigh: undefined,
  device: 36,
  cpu: 40,
  error: 44,
  pduLength: 46,
};
const VERSION_8: RecordLayout = {
  version: 8,
  headerBytes: 64,
  bytes: 24,
  action: 32,
  actionHigh: 36,
  device: 40,
  cpu: 44,
  error: 48,
  pduLength: 50,
};
const LAYOUTS = [VERSION_7, VERSION_8] as const;

/** Bytes that every file of records has at least. */
export const RECORD_HEADER_BYTES = VERSION_7.headerBytes;
/** `pdu_len` is 16 bits wide. */
export const MAX_RECORD_BYTES = VERSION_8.headerBytes + 0xffff;

/** The action's high half: what kind of request or record this is. */
export const Category = {
  read: 1 << 16,
  write: 1 << 17,
  flush: 1 << 18,
  sync: 1 << 19,
  passthrough: 1 << 25,
  notify: 1 << 26,
  ahead: 1 << 27,
  meta: 1 << 28,
  discard: 1 << 29,
  fua: 1 << 31,
} as const;

/** Bits of the high half of version 8's action: operations that version 7 does not tell apart. */
export const Category8 = {
  zoneAppend: 1 << 0,
  /** Reset, reset all, finish, open, close. */
  zoneManagement: 0b111110,
  writeZeroes: 1 << 6,
} as const;

/**
 * The action's low half, without bit 8, which only says that the payload begins with a cgroup id. In a notify
 * record the low half means something else.
 */
export const ACTION_MASK = 0xfeff;

export const ActionNumber: Readonly<Record<TraceAction | 'requeue', number>> = {
  queue: 1,
  requeue: 6,
  issue: 7,
  complete: 8,
};

const MINOR_BITS = 20;

/** `major,minor` of a device number as the kernel keeps it. */
export function deviceName(device: number): string {
  return `${device >>> MINOR_BITS},${device & ((1 << MINOR_BITS) - 1)}`;
}

/** The device number of `major,minor`, or undefined when `name` is not that. */
export function parseDeviceName(name: string): number | undefined {
  const match = /^(\d{1,4}),(\d{1,7})$/.exec(name);
  if (match === null) return undefined;
  const [major, minor] = [Number(match[1]), Number(match[2])];
  if (major >= 1 << (32 - MINOR_BITS) || minor >= 1 << MINOR_BITS) return undefined;
  return major * (1 << MINOR_BITS) + minor;
}

export interface RecordKind {
  readonly layout: RecordLayout;
  readonly byteOrder: 'little-endian' | 'big-endian';
  readonly magic: number;
}

/** What the records of a recording are that starts with `bytes`, or undefined when it is not one. */
export function recordKindOf(bytes: Uint8Array): RecordKind | undefined {
  if (bytes.length < 4) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const byteOrder of ['little-endian', 'big-endian'] as const) {
    const magic = view.getUint32(0, byteOrder === 'little-endian');
    const layout = LAYOUTS.find(({ version }) => magic === (MAGIC_LETTERS | version));
    if (layout !== undefined) return { layout, byteOrder, magic };
  }
  return undefined;
}
