/**
 * Fixed newstyle negotiation, up to the moment when requests may come: the client's options in, the server's
 * replies out. One export. Knows neither sockets nor the store.
 *
 * Bounded: options by number, whatever their length, and their data by length. A client that breaks the protocol
 * is dropped.
 */
import {
  ALLOCATION_CONTEXT,
  ALLOCATION_ID,
  BLOCK_MIN_BYTES,
  BLOCK_PREFERRED_BYTES,
  HandshakeFlag,
  Info,
  INIT_MAGIC,
  Option,
  OPTION_HEADER_BYTES,
  OPTION_MAGIC,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC,
  OptionReply,
  PAYLOAD_MAX_BYTES,
  TransmissionFlag,
} from './protocol.js';

/** The longest option that makes sense is a name of 4096 bytes and a list of informations. */
const OPTION_DATA_MAX_BYTES = 8 * 1024;
const BUFFER_BYTES = OPTION_HEADER_BYTES + OPTION_DATA_MAX_BYTES;
/** Longer data are passed over and answered with an error; beyond this the client is dropped. */
const SKIPPED_DATA_MAX_BYTES = 1024 * 1024;
const OPTIONS_MAX = 64;
const EXPORT_NAME_REPLY_ZEROES = 124;
/** Options without data. */
const BARE_OPTIONS: readonly number[] = [Option.startTls, Option.structuredReply, Option.extendedHeaders, Option.list];

export type TlsPolicy = 'none' | 'required' | 'established';

export interface NegotiationOptions {
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  readonly description: string;
  /** Name of the export; undefined takes whatever name a client gives. */
  readonly exportName?: string | undefined;
  readonly tls: TlsPolicy;
  /** The client's, when they have come already. */
  readonly flags: number | undefined;
  readonly send: (bytes: Uint8Array) => void;
  /** Called when negotiation has succeeded, before the client hears of it. */
  readonly onReady?: (() => void) | undefined;
}

/** What the bytes so far have led to. */
export type Outcome =
  | { readonly kind: 'more' }
  | {
      readonly kind: 'ready';
      readonly isStructured: boolean;
      /** Headers are extended; then replies are structured, too. */
      readonly isExtended: boolean;
      readonly hasAllocation: boolean;
      readonly rest: Uint8Array;
    }
  /** From here on within TLS, with a negotiation of its own that begins after the flags. */
  | { readonly kind: 'tls'; readonly flags: number }
  /** The client has asked to end it. */
  | { readonly kind: 'abort' }
  | { readonly kind: 'broken'; readonly what: string };

const MORE: Outcome = { kind: 'more' };
const broken = (what: string): Outcome => ({ kind: 'broken', what });

/** The server's first words. */
export function greeting(): Uint8Array {
  const bytes = Buffer.alloc(18);
  putMagic(bytes, 0, INIT_MAGIC);
  putMagic(bytes, 8, OPTION_MAGIC);
  bytes.writeUInt16BE(HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes, 16);
  return bytes;
}

function putMagic(bytes: Buffer, at: number, [high, low]: readonly [number, number]): void {
  bytes.writeUInt32BE(high, at);
  bytes.writeUInt32BE(low, at + 4);
}

/** What the export offers, as a client is told after negotiation. */
export function transmissionFlags(isReadOnly: boolean, isStructured: boolean): number {
  let flags: number = TransmissionFlag.hasFlags | TransmissionFlag.sendFlush | TransmissionFlag.canMultiConn;
  const { sendFua, sendTrim, sendWriteZeroes, sendFastZero, sendCache } = TransmissionFlag;
  if (isReadOnly) flags |= TransmissionFlag.readOnly;
  else flags |= sendFua | sendTrim | sendWriteZeroes | sendFastZero | sendCache;
  if (isStructured) flags |= TransmissionFlag.sendDontFragment;
  return flags;
}

export class Negotiation {
  private readonly buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  private length = 0;
  private flags: number | undefined;
  private options = 0;
  /** Bytes of an option's data that are too many, still to be passed over. */
  private skipBytes = 0;
  private isStructured = false;
  private isExtended = false;
  /** Export for which the client has chosen `base:allocation`. */
  private allocationOf: Buffer | undefined;

  constructor(private readonly context: NegotiationOptions) {
    this.flags = context.flags;
  }

  /** Takes bytes; once it has answered anything but `more` it takes none. */
  take(bytes: Uint8Array): Outcome {
    let rest = bytes;
    for (;;) {
      const skipped = Math.min(this.skipBytes, rest.length);
      this.skipBytes -= skipped;
      const count = Math.min(rest.length - skipped, BUFFER_BYTES - this.length);
      this.buffer.set(rest.subarray(skipped, skipped + count), this.length);
      this.length += count;
      rest = rest.subarray(skipped + count);
      const outcome = this.parse();
      if (outcome.kind === 'ready') {
        return { ...outcome, rest: Buffer.concat([this.buffer.subarray(0, this.length), rest]) };
      }
      // What follows in the clear must not be taken for a part of the encrypted conversation.
      if (outcome.kind === 'tls' && this.length + rest.length > 0) return broken('data right after STARTTLS');
      if (outcome.kind !== 'more' || rest.length === 0) return outcome;
    }
  }

  private parse(): Outcome {
    for (;;) {
      if (this.flags === undefined) {
        if (this.length < 4) return MORE;
        this.flags = this.buffer.readUInt32BE(0);
        this.drop(4);
        const known = HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes;
        if ((this.flags & ~known) !== 0) return broken(`handshake flags 0x${this.flags.toString(16)}`);
      }
      if (this.length < OPTION_HEADER_BYTES) return MORE;
      const [high, low] = OPTION_MAGIC;
      if (this.buffer.readUInt32BE(0) !== high || this.buffer.readUInt32BE(4) !== low) {
        return broken('an option does not begin with its magic');
      }
      const option = this.buffer.readUInt32BE(8);
      const dataBytes = this.buffer.readUInt32BE(12);
      const end = OPTION_HEADER_BYTES + dataBytes;
      const isLong = end > BUFFER_BYTES;
      if (!isLong && this.length < end) return MORE;
      if (++this.options > OPTIONS_MAX) return broken('too many options');
      if (isLong) {
        if (dataBytes > SKIPPED_DATA_MAX_BYTES) return broken(`an option of ${dataBytes} bytes`);
        this.skipBytes = end - this.length;
        this.length = 0;
        this.refuse(option, OptionReply.tooBig, `at most ${OPTION_DATA_MAX_BYTES} bytes`);
        return MORE;
      }
      const data = Buffer.from(this.buffer.subarray(OPTION_HEADER_BYTES, end));
      this.drop(end);
      const outcome = this.answer(option, data);
      if (outcome !== MORE) return outcome;
    }
  }

  private drop(count: number): void {
    this.buffer.copyWithin(0, count, this.length);
    this.length -= count;
  }

  private answer(option: number, data: Buffer): Outcome {
    const { tls } = this.context;
    const isBare = BARE_OPTIONS.includes(option);
    if (option === Option.abort) {
      this.reply(option, OptionReply.ack);
      return { kind: 'abort' };
    }
    if (tls === 'required' && option !== Option.startTls) {
      if (option === Option.exportName) return broken('no TLS');
      this.refuse(option, OptionReply.tlsRequired, 'this server speaks TLS only');
      return MORE;
    }
    if (isBare && data.length > 0) {
      this.refuse(option, OptionReply.invalid, 'this option has no data');
      return MORE;
    }
    switch (option) {
      case Option.exportName:
        return this.exportName(data);
      case Option.list:
        this.listExport();
        this.reply(option, OptionReply.ack);
        return MORE;
      case Option.startTls:
        return this.startTls();
      case Option.info:
      case Option.go:
        return this.go(option, data);
      case Option.structuredReply:
        if (this.isExtended) {
          this.refuse(option, OptionReply.extendedHeadersRequired, 'extended headers are on already');
          return MORE;
        }
        this.isStructured = true;
        this.reply(option, OptionReply.ack);
        return MORE;
      case Option.extendedHeaders:
        this.isStructured = this.isExtended = true;
        this.reply(option, OptionReply.ack);
        return MORE;
      case Option.listMetaContext:
      case Option.setMetaContext:
        this.metaContext(option, data);
        return MORE;
      default:
        this.refuse(option, OptionReply.unsupported, `option ${option} is not known here`);
        return MORE;
    }
  }

  private startTls(): Outcome {
    if (this.context.tls === 'required') {
      this.reply(Option.startTls, OptionReply.ack);
      return { kind: 'tls', flags: this.flags! };
    }
    const isOn = this.context.tls === 'established';
    if (isOn) this.refuse(Option.startTls, OptionReply.invalid, 'TLS is on already');
    else this.refuse(Option.startTls, OptionReply.policy, 'this server was started without TLS');
    return MORE;
  }

  private get flagsOffered(): number {
    return transmissionFlags(this.context.isReadOnly, this.isStructured);
  }

  private isOurs(name: Buffer): boolean {
    const { exportName } = this.context;
    return exportName === undefined || name.equals(Buffer.from(exportName));
  }

  private listExport(): void {
    const name = Buffer.from(this.context.exportName ?? '');
    const length = Buffer.alloc(4);
    length.writeUInt32BE(name.length);
    this.reply(Option.list, OptionReply.server, Buffer.concat([length, name]));
  }

  /** The old way in: there is no reply that says no. */
  private exportName(name: Buffer): Outcome {
    if (this.isExtended) return broken('EXPORT_NAME after EXTENDED_HEADERS');
    if (!this.isOurs(name)) return broken('an unknown export name');
    const withZeroes = (this.flags! & HandshakeFlag.noZeroes) === 0;
    const bytes = Buffer.alloc(10 + (withZeroes ? EXPORT_NAME_REPLY_ZEROES : 0));
    bytes.writeBigUInt64BE(BigInt(this.context.sizeBytes), 0);
    bytes.writeUInt16BE(this.flagsOffered, 8);
    this.context.onReady?.();
    this.context.send(bytes);
    return this.ready(name);
  }

  private ready(name: Buffer): Outcome {
    const hasAllocation = this.allocationOf?.equals(name) === true;
    const { isStructured, isExtended } = this;
    return { kind: 'ready', isStructured, isExtended, hasAllocation, rest: NOTHING };
  }

  /** What a client may ask of an export: `base:allocation`, or nothing. */
  private metaContext(option: number, data: Buffer): void {
    const isSet = option === Option.setMetaContext;
    if (isSet) this.allocationOf = undefined;
    if (!this.isStructured) return this.refuse(option, OptionReply.invalid, 'structured replies come first');
    const parts = metaContextParts(data);
    if (parts === undefined) return this.refuse(option, OptionReply.invalid, 'its lengths contradict one another');
    const { name, queries } = parts;
    if (!this.isOurs(name)) {
      return this.refuse(option, OptionReply.unknown, `there is one export, '${this.context.exportName}'`);
    }
    const isAsked = (query: string) => query === ALLOCATION_CONTEXT || (!isSet && query === 'base:');
    if (queries.some(isAsked) || (!isSet && queries.length === 0)) {
      if (isSet) this.allocationOf = Buffer.from(name);
      const id = Buffer.alloc(4);
      id.writeUInt32BE(ALLOCATION_ID);
      this.reply(option, OptionReply.metaContext, Buffer.concat([id, Buffer.from(ALLOCATION_CONTEXT)]));
    }
    this.reply(option, OptionReply.ack);
  }

  private go(option: number, data: Buffer): Outcome {
    const nameBytes = data.length < 6 ? Infinity : data.readUInt32BE(0);
    const count = nameBytes > data.length - 6 ? -1 : data.readUInt16BE(4 + nameBytes);
    if (count < 0 || data.length !== 6 + nameBytes + 2 * count) {
      this.refuse(option, OptionReply.invalid, 'its lengths contradict one another');
      return MORE;
    }
    const name = data.subarray(4, 4 + nameBytes);
    if (!this.isOurs(name)) {
      this.refuse(option, OptionReply.unknown, `there is one export, '${this.context.exportName}'`);
      return MORE;
    }
    const asked = new Set(Array.from({ length: count }, (_, n) => data.readUInt16BE(6 + nameBytes + 2 * n)));
    if (option === Option.go) this.context.onReady?.();
    this.informations(option, asked, name);
    this.reply(option, OptionReply.ack);
    return option === Option.go ? this.ready(name) : MORE;
  }

  private informations(option: number, asked: ReadonlySet<number>, name: Buffer): void {
    const exported = Buffer.alloc(12);
    exported.writeUInt16BE(Info.export, 0);
    exported.writeBigUInt64BE(BigInt(this.context.sizeBytes), 2);
    exported.writeUInt16BE(this.flagsOffered, 10);
    this.reply(option, OptionReply.info, exported);
    const blockSizes = Buffer.alloc(14);
    blockSizes.writeUInt16BE(Info.blockSize, 0);
    blockSizes.writeUInt32BE(BLOCK_MIN_BYTES, 2);
    blockSizes.writeUInt32BE(BLOCK_PREFERRED_BYTES, 6);
    blockSizes.writeUInt32BE(PAYLOAD_MAX_BYTES, 10);
    this.reply(option, OptionReply.info, blockSizes);
    const text = (info: number, value: string | Buffer) =>
      this.reply(option, OptionReply.info, Buffer.concat([Buffer.from([info >> 8, info & 0xff]), Buffer.from(value)]));
    if (asked.has(Info.name)) text(Info.name, name);
    if (asked.has(Info.description)) text(Info.description, this.context.description);
  }

  private refuse(option: number, type: number, text: string): void {
    this.reply(option, type, Buffer.from(text));
  }

  private reply(option: number, type: number, data: Uint8Array = NOTHING): void {
    const bytes = Buffer.alloc(OPTION_REPLY_HEADER_BYTES + data.length);
    putMagic(bytes, 0, OPTION_REPLY_MAGIC);
    bytes.writeUInt32BE(option, 8);
    bytes.writeUInt32BE(type, 12);
    bytes.writeUInt32BE(data.length, 16);
    bytes.set(data, OPTION_REPLY_HEADER_BYTES);
    this.context.send(bytes);
  }
}

/** Name of the export and queries of a question for metadata contexts; undefined when its lengths are wrong. */
function metaContextParts(data: Buffer): { readonly name: Buffer; readonly queries: readonly string[] } | undefined {
  let at = 0;
  const word = (): number => {
    at += 4;
    return at <= data.length ? data.readUInt32BE(at - 4) : Infinity;
  };
  const bytes = (): Buffer | undefined => {
    const length = word();
    if (at + length > data.length) return undefined;
    at += length;
    return data.subarray(at - length, at);
  };
  const name = bytes();
  if (name === undefined) return undefined;
  const queries: string[] = [];
  for (let left = word(); left > 0; left--) {
    const query = bytes();
    if (query === undefined) return undefined;
    queries.push(query.toString('utf8'));
  }
  return at === data.length ? { name, queries } : undefined;
}

const NOTHING = new Uint8Array(0);
