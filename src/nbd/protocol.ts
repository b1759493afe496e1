/**
 * The NBD protocol's numbers: magics, options, flags, commands, errors, sizes. All of it is big-endian on the
 * wire. Pure; the names are those of the protocol's specification without their prefix.
 */

/** "NBDMAGIC" and "IHAVEOPT", as two 32-bit words each. */
export const INIT_MAGIC = [0x4e42444d, 0x41474943] as const;
export const OPTION_MAGIC = [0x49484156, 0x454f5054] as const;
export const OPTION_REPLY_MAGIC = [0x0003e889, 0x045565a9] as const;
export const REQUEST_MAGIC = 0x25609513;
export const EXTENDED_REQUEST_MAGIC = 0x21e41c71;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;
export const EXTENDED_REPLY_MAGIC = 0x6e8a278c;

/** Of the server's greeting and of the client's answer to it. */
export const HandshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const Option = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const;

export const OptionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  unsupported: 0x80000001,
  policy: 0x80000002,
  invalid: 0x80000003,
  unknown: 0x80000006,
  tlsRequired: 0x80000005,
  tooBig: 0x80000009,
  extendedHeadersRequired: 0x8000000a,
} as const;

export const Info = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const TransmissionFlag = {
  hasFlags: 1,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDontFragment: 1 << 7,
  canMultiConn: 1 << 8,
  sendCache: 1 << 10,
  sendFastZero: 1 << 11,
} as const;

export const Command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const CommandFlag = {
  fua: 1,
  noHole: 1 << 1,
  dontFragment: 1 << 2,
  requestOne: 1 << 3,
  fastZero: 1 << 4,
  /** With extended headers: a payload of the request's length follows. */
  payloadLength: 1 << 5,
} as const;

export const ChunkFlag = { done: 1 } as const;
export const Chunk = { none: 0, offsetData: 1, blockStatus: 5, blockStatusExtended: 6, error: 0x8001 } as const;

/** The one metadata context that there is, and its states of an extent. */
export const ALLOCATION_CONTEXT = 'base:allocation';
/** Its number in answers of this server. */
export const ALLOCATION_ID = 1;
export const AllocationState = { hole: 1, zero: 2 } as const;

export const NbdError = {
  none: 0,
  notPermitted: 1,
  io: 5,
  invalid: 22,
  noSpace: 28,
  overflow: 75,
  notSupported: 95,
  shutdown: 108,
} as const;

export const OPTION_HEADER_BYTES = 16;
export const OPTION_REPLY_HEADER_BYTES = 20;
export const REQUEST_BYTES = 28;
export const EXTENDED_REQUEST_BYTES = 32;
export const SIMPLE_REPLY_BYTES = 16;
/** Header of a chunk: of a structured reply, and of an extended one. */
export const CHUNK_HEADER_BYTES = 20;
export const EXTENDED_CHUNK_HEADER_BYTES = 32;
/** Offset before the data of a chunk. */
export const DATA_OFFSET_BYTES = 8;
/** Error and length of the text before the text of an error chunk. */
export const ERROR_FIELDS_BYTES = 6;

export const BLOCK_MIN_BYTES = 512;
export const BLOCK_PREFERRED_BYTES = 4096;
/** Longest read or write that is taken. A client that does not ask for it may assume 32 MiB. */
export const PAYLOAD_MAX_BYTES = 64 * 1024 * 1024;
/** The payload of a longer write is passed over and answered with an error; beyond this the client is dropped. */
export const SKIPPED_PAYLOAD_MAX_BYTES = 1024 * 1024 * 1024;
