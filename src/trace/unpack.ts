/**
 * The bytes of a trace as they were before somebody packed them: gzip and zstd are recognised by how they begin.
 */
import { Decompress } from 'fzstd';
import { PcacheError } from '../engine/errors.js';
import { GunzipSource, Pieces } from './bytes.js';
import type { ByteSource } from './bytes.js';

export type Packing = 'gzip' | 'zstd';

export interface UnpackedSource extends ByteSource {
  /** How it was packed, if it was. */
  readonly packing: Packing | undefined;
  /** Set once the packed data ended early; what came before was delivered. */
  readonly cutShort: boolean;
}

/** A skippable frame's magic goes from here 16 up. */
const ZSTD_SKIPPABLE_MAGIC = 0x184d2a50;
const ZSTD_MAGIC = 0xfd2fb528;
const MAGIC_BYTES = 4;
/** A block of zstd unpacks to 128 KiB at most, and takes a few bytes at least: this bounds what a piece unpacks to. */
const PACKED_PIECE_BYTES = 4 * 1024;
/** What fzstd says of data that end early. */
const ZSTD_UNEXPECTED_END = 5;

function packingOf(bytes: Uint8Array): Packing | undefined {
  if (bytes.length >= 2 && bytes[0] === 0x1f && bytes[1] === 0x8b) return 'gzip';
  if (bytes.length < MAGIC_BYTES) return undefined;
  const magic = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true);
  return magic === ZSTD_MAGIC || (magic & ~0xf) >>> 0 === ZSTD_SKIPPABLE_MAGIC ? 'zstd' : undefined;
}

/** Reads on until `buffer[0, minimum)` is filled or the source ends. @returns bytes in `buffer` from 0 on. */
export async function fillAtLeast(
  source: ByteSource,
  buffer: Uint8Array,
  have: number,
  minimum: number,
): Promise<number> {
  let end = have;
  while (end < minimum) {
    const got = await source.read(buffer, end, buffer.length - end);
    if (got === 0) break;
    end += got;
  }
  return end;
}

/** Takes `source` over: closes it when this fails. */
export async function openUnpacked(source: ByteSource): Promise<UnpackedSource> {
  try {
    const head = new Uint8Array(PACKED_PIECE_BYTES);
    const start = head.subarray(0, await fillAtLeast(source, head, 0, MAGIC_BYTES));
    switch (packingOf(start)) {
      case 'gzip':
        return new GunzipSource(source, start);
      case 'zstd':
        return new UnzstdSource(source, start);
      default:
        return new PlainSource(source, start);
    }
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** A source that is not packed; gives what was already taken from it first. */
class PlainSource implements UnpackedSource {
  readonly packing = undefined;
  readonly cutShort = false;
  readonly name: string;
  readonly #source: ByteSource;
  #start: Uint8Array;

  constructor(source: ByteSource, start: Uint8Array) {
    this.name = source.name;
    this.#source = source;
    this.#start = start;
  }

  async read(target: Uint8Array, at: number, lengthBytes: number): Promise<number> {
    if (this.#start.length === 0) return this.#source.read(target, at, lengthBytes);
    const piece = this.#start.subarray(0, lengthBytes);
    target.set(piece, at);
    this.#start = this.#start.subarray(piece.length);
    return piece.length;
  }

  close(): Promise<void> {
    return this.#source.close();
  }
}

/** Unpacks zstd: frames one after the other, skippable ones between them. The frames' checksums are not looked at. */
export class UnzstdSource implements UnpackedSource {
  readonly packing = 'zstd';
  readonly name: string;
  cutShort = false;
  readonly #packed: ByteSource;
  readonly #decoder: Decompress;
  readonly #unpacked = new Pieces();
  #input: Uint8Array | undefined;
  #ended = false;

  /** @param start bytes already taken from `packed`. */
  constructor(packed: ByteSource, start: Uint8Array) {
    this.name = packed.name;
    this.#packed = packed;
    this.#input = start;
    this.#decoder = new Decompress((piece) => {
      if (piece.length > 0) this.#unpacked.push(piece);
    });
  }

  async read(target: Uint8Array, at: number, lengthBytes: number): Promise<number> {
    while (this.#unpacked.isEmpty) {
      if (this.#ended) return 0;
      await this.#feed();
    }
    return this.#unpacked.take(target, at, lengthBytes);
  }

  async #feed(): Promise<void> {
    let input = this.#input;
    this.#input = undefined;
    if (input === undefined) {
      // The decoder keeps hold of what it is given.
      const piece = new Uint8Array(PACKED_PIECE_BYTES);
      input = piece.subarray(0, await this.#packed.read(piece, 0, piece.length));
    }
    if (input.length === 0) this.#ended = true;
    try {
      this.#decoder.push(input, this.#ended);
    } catch (error) {
      if (this.#ended && (error as { code?: unknown }).code === ZSTD_UNEXPECTED_END) {
        this.cutShort = true;
        return;
      }
      throw new PcacheError(
        'BAD_TRACE',
        `${this.name}: damaged zstd data (${(error as Error).message}); copy or compress it again`,
        { cause: error },
      );
    }
  }

  close(): Promise<void> {
    return this.#packed.close();
  }
}
