/**
 * The record of a blktrace recording: a fixed header (`struct blk_io_trace` of the kernel's
 * `linux/blktrace_api.h`, version 7) in the byte order of the machine that recorded, followed by `pdu_len`
 * bytes that depend on the action and mean nothing here. Constants and pure functions only.
 */
import type { TraceAction } from './types.js';

export const RECORD_HEADER_BYTES = 48;
/** `pdu_len` is 16 bits wide. */
export const MAX_RECORD_BYTES = RECORD_HEADER_BYTES + 0xffff;

/** Three letters and the version of the record in the low byte. */
export const MAGIC_LETTERS = 0x65617400;
export const RECORD_VERSION = 7;
export const RECORD_MAGIC = MAGIC_LETTERS | RECORD_VERSION;

/** Byte offsets of the fields of the header. */
export const Field = {
  magic: 0,
  sequence: 4,
  timeLow: 8,
  sectorLow: 16,
  bytes: 24,
  action: 28,
  pid: 32,
  device: 36,
  cpu: 40,
  error: 44,
  pduLength: 46,
} as const;

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

/**
 * The action's low half, without bit 8, which only says that the payload begins with a cgroup id. In a notify
 * record the low half means something else.
 */
export const ACTION_MASK = 0xfeff;

export const ActionNumber: Readonly<Record<TraceAction, number>> = { queue: 1, issue: 7, complete: 8 };

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

/** The byte order of a recording that starts with `bytes`, or undefined when it is none of version 7. */
export function byteOrderOf(bytes: Uint8Array): 'little-endian' | 'big-endian' | undefined {
  if (bytes.length < 4) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) === RECORD_MAGIC) return 'little-endian';
  return view.getUint32(0, false) === RECORD_MAGIC ? 'big-endian' : undefined;
}
