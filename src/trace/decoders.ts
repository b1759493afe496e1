/** Decoders of zstd, bzip2, xz and lz4, behind one face. */
import { Decompress } from 'fzstd';
import unbzip2 from 'unbzip2-stream';
import type { XzReadableStream } from 'xz-decompress';
import { layout } from '../layout/layout.js';
import type { Pieces } from './bytes.js';
import { CutShort } from './pushed-source.js';
import type { Decoder } from './pushed-source.js';

/** What fzstd says of data that end early. */
const ZSTD_UNEXPECTED_END = 5;
const ZSTD_MAGIC = 0xfd2fb528;
/**
 * A window that is larger than the first of these is taken to be no larger, which holds as long as no more than that comes
 * of the frame; then the frame is decoded again with the second. The library moves the whole window for each block.
 */
const ZSTD_WINDOW_BITS_FIRST = 22;
const ZSTD_WINDOW_BITS_MAX = 27;
const ZSTD_WINDOW_BITS_MIN = 10;
/** Bit of the header's flags: there is no window's size, and the content's says it. */
const ZSTD_SINGLE_SEGMENT = 0x20;
/** Frames have this many bytes before the first block at most. */
const ZSTD_HEADER_BYTES = 18;

/** Frames one after the other, skippable ones between them. The frames' checksums are not looked at. */
export class ZstdDecoder implements Decoder {
  #decoder = this.#makeDecoder();
  #output: Pieces | undefined;
  #start: Uint8Array | undefined = new Uint8Array(0);
  /** Bytes that may come of a frame whose window was made smaller; undefined for any number. */
  #limitBytes: number | undefined;
  /** Bytes that came of it so far, and those of them that were delivered before it was decoded again. */
  #decodedBytes = 0;
  #skipBytes = 0;
  /** All input so far, while the frame may have to be decoded again. */
  #kept: Uint8Array[] | undefined;
  #windowBits = 0;

  #makeDecoder(): Decompress {
    return new Decompress((piece) => this.#take(piece));
  }

  #take(piece: Uint8Array): void {
    if (piece.length === 0) return;
    const skipped = Math.min(piece.length, Math.max(0, this.#skipBytes - this.#decodedBytes));
    this.#decodedBytes += piece.length;
    if (skipped < piece.length) this.#output?.push(piece.subarray(skipped));
    if (this.#limitBytes === undefined || this.#decodedBytes <= this.#limitBytes) return;
    if (this.#kept !== undefined) throw new WindowTooSmall();
    throw new Error(`its window of 2^${this.#windowBits} bytes needs zstd -d --long=${this.#windowBits}`);
  }

  push(piece: Uint8Array, output: Pieces): void {
    this.#output = output;
    const input = this.#withSmallWindow(piece);
    if (input === undefined) return;
    this.#kept?.push(input);
    try {
      try {
        this.#decoder.push(input, piece.length === 0);
      } catch (error) {
        if (!(error instanceof WindowTooSmall)) throw error;
        this.#again(piece.length === 0);
      }
    } catch (error) {
      if (piece.length === 0 && (error as { code?: unknown }).code === ZSTD_UNEXPECTED_END) throw new CutShort();
      throw error;
    }
  }

  /** Decodes what came so far with the larger window; what was delivered is not delivered again. */
  #again(isAtEnd: boolean): void {
    const input = Buffer.concat(this.#kept ?? []);
    this.#kept = undefined;
    this.#skipBytes = this.#decodedBytes;
    this.#decodedBytes = 0;
    const bits = Math.min(this.#windowBits, ZSTD_WINDOW_BITS_MAX);
    this.#limitBytes = this.#windowBits <= ZSTD_WINDOW_BITS_MAX ? undefined : 2 ** ZSTD_WINDOW_BITS_MAX;
    input[5] = (bits - ZSTD_WINDOW_BITS_MIN) << 3;
    this.#decoder = this.#makeDecoder();
    this.#decoder.push(input, isAtEnd);
  }

  /** The first piece with the window that its frame's header asks for made smaller where it is large. */
  #withSmallWindow(piece: Uint8Array): Uint8Array | undefined {
    if (this.#start === undefined) return piece;
    const head = Buffer.concat([this.#start, piece]);
    if (head.length < ZSTD_HEADER_BYTES && piece.length > 0) {
      this.#start = head;
      return undefined;
    }
    this.#start = undefined;
    if (head.length < ZSTD_HEADER_BYTES || head.readUInt32LE(0) !== ZSTD_MAGIC) return head;
    const input = withWindowByte(head);
    const bits = (input[5] >> 3) + ZSTD_WINDOW_BITS_MIN;
    if ((input[4] & ZSTD_SINGLE_SEGMENT) !== 0 || bits <= ZSTD_WINDOW_BITS_FIRST) return input;
    this.#windowBits = bits;
    this.#limitBytes = 2 ** ZSTD_WINDOW_BITS_FIRST;
    this.#kept = [];
    input[5] = (ZSTD_WINDOW_BITS_FIRST - ZSTD_WINDOW_BITS_MIN) << 3;
    return input;
  }
}

class WindowTooSmall extends Error {}

/** A frame whose window is all of its large content, with the header of one that says how large its window is. */
function withWindowByte(frame: Buffer): Buffer {
  const flags = frame[4];
  const sizeBytes = [1, 2, 4, 8][flags >> 6];
  if ((flags & ZSTD_SINGLE_SEGMENT) === 0 || sizeBytes < 4) return frame;
  const at = 5 + [0, 1, 2, 4][flags & 3];
  const size = sizeBytes === 4 ? frame.readUInt32LE(at) : Number(frame.readBigUInt64LE(at));
  if (size <= 2 ** ZSTD_WINDOW_BITS_FIRST) return frame;
  const bits = Math.min(41, Math.ceil(Math.log2(size)));
  const start = Buffer.from([
    ...frame.subarray(0, 4),
    flags & ~ZSTD_SINGLE_SEGMENT,
    (bits - ZSTD_WINDOW_BITS_MIN) << 3,
  ]);
  return Buffer.concat([start, frame.subarray(5)]);
}

export class Bzip2Decoder implements Decoder {
  readonly #stream = unbzip2();
  #output: Pieces | undefined;
  #error: Error | undefined;

  constructor() {
    this.#stream.on('data', (piece: Uint8Array) => this.#output?.push(piece));
    this.#stream.on('error', (error: Error) => {
      this.#error ??= error;
    });
  }

  push(piece: Uint8Array, output: Pieces): void {
    this.#output = output;
    if (piece.length > 0) this.#stream.write(piece);
    else this.#stream.end();
    const error = this.#error;
    if (error === undefined) return;
    if (piece.length === 0 && /prematurely|undefined|end of/i.test(error.message)) throw new CutShort();
    throw error;
  }
}

const XZ_FOOTER = [0x59, 0x5a] as const;

/** Streams one after the other, with zeros between them. */
export class XzDecoder implements Decoder {
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  #starved: (() => void) | undefined;
  /** Position in the packed data, for the alignment of footers. */
  #position = 0;
  #sawFooter = false;

  async push(piece: Uint8Array, output: Pieces): Promise<void> {
    if (piece.length === 0) {
      if (this.#reader === undefined) return;
      this.#controller?.close();
      await this.#drain(output).catch(() => undefined);
      if (this.#reader !== undefined) throw new CutShort();
      return;
    }
    for (let at = 0; at < piece.length;) {
      if (this.#reader === undefined) {
        while (at < piece.length && piece[at] === 0) at++;
        if (at === piece.length) break;
        this.#begin();
      }
      const end = this.#endOfPart(piece, at);
      const part = piece.slice(at, end);
      this.#position += part.length;
      at = end;
      this.#controller!.enqueue(part);
      await this.#drain(output);
    }
  }

  /** Parts end where a stream may end, so that what the decoder is given is never behind its stream's end. */
  #endOfPart(piece: Uint8Array, from: number): number {
    for (let at = from; at < piece.length; at++) {
      const position = this.#position + (at - from);
      if (
        piece[at] === XZ_FOOTER[1] &&
        position % 4 === 3 &&
        (at > from ? piece[at - 1] === XZ_FOOTER[0] : this.#sawFooter)
      ) {
        this.#sawFooter = false;
        return at + 1;
      }
      this.#sawFooter = at === piece.length - 1 && piece[at] === XZ_FOOTER[0];
    }
    return piece.length;
  }

  #begin(): void {
    // The library decodes one stream at a time; an instance of its own does not wait for others.
    const library = layout.xzDecoder() as { XzReadableStream: typeof XzReadableStream };
    this.#position = 0;
    const input = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        pull: () => this.#starved?.(),
      },
      { highWaterMark: 0 },
    );
    this.#reader = new library.XzReadableStream(input).getReader();
  }

  /** Takes what the decoder makes of what it has, until it wants more. */
  async #drain(output: Pieces): Promise<void> {
    const starved = new Promise<'starved'>((resolve) => {
      this.#starved = () => resolve('starved');
    });
    for (;;) {
      this.#pending ??= this.#reader!.read();
      const got = await Promise.race([this.#pending, starved]);
      if (got === 'starved') return;
      this.#pending = undefined;
      if (got.done) {
        this.#reader = undefined;
        return;
      }
      if (got.value.length > 0) output.push(got.value.slice());
    }
  }
  #pending: ReturnType<ReadableStreamDefaultReader<Uint8Array>['read']> | undefined;

  async close(): Promise<void> {
    this.#pending?.catch(() => undefined);
    await this.#reader?.cancel().catch(() => undefined);
  }
}

const LZ4_MAGIC = 0x184d2204;
const LZ4_SKIPPABLE_MAGIC = 0x184d2a50;
const LZ4_BLOCK_BYTES_MAX = 4 * 2 ** 20;
/** A match reaches back at most so far. */
const LZ4_WINDOW_BYTES = 64 * 1024;

/** LZ4 frames one after the other, skippable ones between them. Checksums are not looked at. */
export class Lz4Decoder implements Decoder {
  #input = Buffer.alloc(0);
  #state: 'frame' | 'block' | 'skip' = 'frame';
  #skipBytes = 0;
  #hasBlockChecksum = false;
  #hasContentChecksum = false;
  #independent = true;
  #blockBytesMax = 0;
  /** The window, and behind it room for a block. */
  #history = Buffer.alloc(0);
  #historyBytes = 0;

  push(piece: Uint8Array, output: Pieces): void {
    this.#input = Buffer.concat([this.#input, piece]);
    while (this.#step(output));
    const isAtEnd = this.#state === 'frame' && this.#input.length === 0;
    if (piece.length === 0 && !isAtEnd) throw new CutShort();
  }

  /** @returns false when more data are needed */
  #step(output: Pieces): boolean {
    if (this.#state === 'skip') {
      const bytes = Math.min(this.#skipBytes, this.#input.length);
      this.#input = this.#input.subarray(bytes);
      this.#skipBytes -= bytes;
      if (this.#skipBytes > 0) return false;
      this.#state = 'frame';
    }
    return this.#state === 'frame' ? this.#frame() : this.#block(output);
  }

  #frame(): boolean {
    const input = this.#input;
    if (input.length < 8) return false;
    const magic = input.readUInt32LE(0);
    if ((magic & ~0xf) >>> 0 === LZ4_SKIPPABLE_MAGIC) {
      this.#skipBytes = input.readUInt32LE(4);
      this.#input = input.subarray(8);
      this.#state = 'skip';
      return true;
    }
    if (magic !== LZ4_MAGIC) throw new Error('what follows a frame is not one');
    const [flags, descriptor] = [input[4], input[5]];
    const size = (descriptor >> 4) & 7;
    if (flags >> 6 !== 1 || size < 4) throw new Error('a frame of an unknown version');
    if ((flags & 1) !== 0) throw new Error('a frame with a dictionary');
    const headerBytes = 7 + ((flags & 8) !== 0 ? 8 : 0);
    if (input.length < headerBytes) return false;
    this.#independent = (flags & 0x20) !== 0;
    this.#hasBlockChecksum = (flags & 0x10) !== 0;
    this.#hasContentChecksum = (flags & 4) !== 0;
    this.#blockBytesMax = Math.min(LZ4_BLOCK_BYTES_MAX, 2 ** (8 + 2 * size));
    this.#history = Buffer.alloc(LZ4_WINDOW_BYTES + this.#blockBytesMax);
    this.#historyBytes = 0;
    this.#input = input.subarray(headerBytes);
    this.#state = 'block';
    return true;
  }

  #block(output: Pieces): boolean {
    const input = this.#input;
    if (input.length < 4) return false;
    const word = input.readUInt32LE(0);
    if (word === 0) {
      const endBytes = 4 + (this.#hasContentChecksum ? 4 : 0);
      if (input.length < endBytes) return false;
      this.#input = input.subarray(endBytes);
      this.#state = 'frame';
      return this.#input.length > 0;
    }
    const bytes = word & 0x7fffffff;
    if (bytes > this.#blockBytesMax) throw new Error('a block is larger than its frame says');
    const whole = 4 + bytes + (this.#hasBlockChecksum ? 4 : 0);
    if (input.length < whole) return false;
    const packed = input.subarray(4, 4 + bytes);
    if (this.#independent) this.#historyBytes = 0;
    const begin = this.#historyBytes;
    const end = word >>> 31 === 1 ? this.#copy(packed) : decodeLz4Block(packed, this.#history, begin);
    output.push(Uint8Array.from(this.#history.subarray(begin, end)));
    const kept = Math.min(end, LZ4_WINDOW_BYTES);
    this.#history.copyWithin(0, end - kept, end);
    this.#historyBytes = kept;
    this.#input = input.subarray(whole);
    return true;
  }

  #copy(bytes: Buffer): number {
    bytes.copy(this.#history, this.#historyBytes);
    return this.#historyBytes + bytes.length;
  }
}

/** Decodes one block into `target` from `begin` on; matches may reach back before that. @returns where it ends */
function decodeLz4Block(packed: Buffer, target: Buffer, begin: number): number {
  let from = 0;
  let to = begin;
  const lengthOf = (start: number): number => {
    let length = start;
    if (start !== 15) return length;
    for (let byte = 255; byte === 255;) {
      if (from >= packed.length) throw new Error('a block ends within a length');
      byte = packed[from++];
      length += byte;
    }
    return length;
  };
  while (from < packed.length) {
    const token = packed[from++];
    const literals = lengthOf(token >> 4);
    if (literals > packed.length - from || literals > target.length - to) throw new Error('a block runs over its end');
    packed.copy(target, to, from, from + literals);
    from += literals;
    to += literals;
    if (from === packed.length) return to;
    if (packed.length - from < 2) throw new Error('a block ends within an offset');
    const offset = packed.readUInt16LE(from);
    from += 2;
    const match = lengthOf(token & 15) + 4;
    if (offset === 0 || offset > to || match > target.length - to) throw new Error('a match is out of the data');
    for (let i = 0; i < match; i++, to++) target[to] = target[to - offset];
  }
  return to;
}
