/**
 * What is used of the ublk driver's control commands (Linux 6.0 and later): numbers, flags, and the buffers that go with
 * them, as include/uapi/linux/ublk_cmd.h of the kernel defines them. Little-endian, as every machine that we run on.
 * The native helper has the rest (native/src/ublk-abi.h).
 */

export const ControlOp = {
  getDeviceInfo: 0x02,
  addDevice: 0x04,
  deleteDevice: 0x05,
  startDevice: 0x06,
  stopDevice: 0x07,
  setParameters: 0x08,
  getParameters: 0x09,
  startUserRecovery: 0x10,
  endUserRecovery: 0x11,
  getFeatures: 0x13,
  /** Linux 6.9 and later. */
  deleteDeviceAsync: 0x14,
} as const;
export type ControlOp = (typeof ControlOp)[keyof typeof ControlOp];

/** Direction, size and type that the numbers have from Linux 6.4 on: _IOWR('u', number, 32 bytes), and _IOR. */
const WRITE_READ = 0xc0207500;
const READ = 0x80207500;
const READING: readonly ControlOp[] = [
  ControlOp.getDeviceInfo,
  ControlOp.getParameters,
  ControlOp.getFeatures,
  ControlOp.deleteDeviceAsync,
];

/** Number of a control command as the driver takes it. @param isEncoded false for drivers before Linux 6.4 */
export function controlNumber(op: ControlOp, isEncoded: boolean): number {
  if (!isEncoded) return op;
  return ((READING.includes(op) ? READ : WRITE_READ) | op) >>> 0;
}

/** Has the kernel choose a device number. */
export const ANY_DEVICE = 0xffffffff;
/** For commands that are not about a queue. */
export const NO_QUEUE = 0xffff;

export const DeviceFlag = {
  /** After the server has died the device stays, and requests wait for another server. */
  userRecovery: 1 << 3,
  /** Requests that the dead server had not answered are sent to the next one again. */
  userRecoveryReissue: 1 << 4,
} as const;

export const DeviceState = { dead: 0, live: 1, quiesced: 2 } as const;

export const RequestOp = { read: 0, write: 1, flush: 2, discard: 3, writeZeroes: 5 } as const;

export interface DeviceInfo {
  readonly queues: number;
  /** Requests under way at most. */
  readonly depth: number;
  /** A `DeviceState`. */
  readonly state: number;
  /** Longest request, bytes. */
  readonly maxIoBytes: number;
  readonly id: number;
  /** Process of the server; -1 when it has not been started. */
  readonly pid: number;
  readonly flags: number;
  /** The server's own; the driver keeps them. */
  readonly serverFlags: bigint;
}

export const DEVICE_INFO_BYTES = 64;

export function encodeDeviceInfo(info: DeviceInfo): Uint8Array {
  const bytes = new Uint8Array(DEVICE_INFO_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, info.queues, true);
  view.setUint16(2, info.depth, true);
  view.setUint16(4, info.state, true);
  view.setUint32(8, info.maxIoBytes, true);
  view.setUint32(12, info.id, true);
  view.setInt32(16, info.pid, true);
  view.setBigUint64(24, BigInt(info.flags), true);
  view.setBigUint64(32, info.serverFlags, true);
  return bytes;
}

export function decodeDeviceInfo(bytes: Uint8Array): DeviceInfo {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    queues: view.getUint16(0, true),
    depth: view.getUint16(2, true),
    state: view.getUint16(4, true),
    maxIoBytes: view.getUint32(8, true),
    id: view.getUint32(12, true),
    pid: view.getInt32(16, true),
    flags: view.getUint32(24, true),
    serverFlags: view.getBigUint64(32, true),
  };
}

export const Attribute = { readOnly: 1 << 0 } as const;
const TYPE_BASIC = 1 << 0;
/** DISCARD and WRITE_ZEROES. */
const TYPE_DISCARD = 1 << 1;

/** The basic parameters, and those of DISCARD and WRITE_ZEROES. */
export interface Parameters {
  /** `Attribute` bits. */
  readonly attributes: number;
  readonly logicalBlockShift: number;
  readonly physicalBlockShift: number;
  /** Longest request, sectors. */
  readonly maxSectors: number;
  readonly deviceSectors: number;
  /** Longest DISCARD and WRITE_ZEROES, sectors; 0 where they are not offered. */
  readonly discardMaxSectors: number;
  readonly zeroesMaxSectors: number;
}

export const PARAMETERS_BYTES = 60;

export function encodeParameters(parameters: Parameters): Uint8Array {
  const bytes = new Uint8Array(PARAMETERS_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, PARAMETERS_BYTES, true);
  view.setUint32(4, parameters.discardMaxSectors > 0 ? TYPE_BASIC | TYPE_DISCARD : TYPE_BASIC, true);
  view.setUint32(8, parameters.attributes, true);
  view.setUint8(12, parameters.logicalBlockShift);
  view.setUint8(13, parameters.physicalBlockShift);
  view.setUint8(14, parameters.physicalBlockShift); // preferred and least lengths of requests
  view.setUint8(15, parameters.physicalBlockShift);
  view.setUint32(16, parameters.maxSectors, true);
  view.setBigUint64(24, BigInt(parameters.deviceSectors), true);
  view.setUint32(44, 1 << parameters.physicalBlockShift, true); // granularity; the alignment before it is 0
  view.setUint32(48, parameters.discardMaxSectors, true);
  view.setUint32(52, parameters.zeroesMaxSectors, true);
  view.setUint16(56, 1, true); // ranges a DISCARD
  return bytes;
}

export function decodeParameters(bytes: Uint8Array): Parameters {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    attributes: view.getUint32(8, true),
    logicalBlockShift: view.getUint8(12),
    physicalBlockShift: view.getUint8(13),
    maxSectors: view.getUint32(16, true),
    deviceSectors: Number(view.getBigUint64(24, true)),
    discardMaxSectors: view.getUint32(48, true),
    zeroesMaxSectors: view.getUint32(52, true),
  };
}
