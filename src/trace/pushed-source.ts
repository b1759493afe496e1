/**
 * A source that unpacks another one: the packed data are pushed into a decoder a piece at a time, and all that comes of
 * a piece is handed out before the next is pushed. So nothing is lost of data that end early, and memory is bounded.
 */
import { PcacheError } from '../engine/errors.js';
import { Pieces } from './bytes.js';
import type { ByteSource } from './bytes.js';

export interface Decoder {
  /**
   * Decodes the next piece, which it may keep; an empty one is the end of the data.
   * Throws `CutShort` when the data end early, and any other error when they are damaged.
   */
  push(piece: Uint8Array, output: Pieces): void | Promise<void>;
  close?(): void | Promise<void>;
}

/** The packed data end before they are complete. */
export class CutShort extends Error {}

export class PushedSource implements ByteSource {
  readonly name: string;
  readonly packing: string;
  /** Set once the packed data ended early; what came before was delivered. */
  cutShort = false;
  readonly #packed: ByteSource;
  readonly #decoder: Decoder;
  readonly #pieceBytes: number;
  readonly #unpacked = new Pieces();
  #input: Uint8Array;
  #ended = false;

  /** @param start bytes already taken from `packed`. @param pieceBytes bounds what one piece unpacks to */
  constructor(packed: ByteSource, start: Uint8Array, packing: string, decoder: Decoder, pieceBytes: number) {
    this.name = packed.name;
    this.packing = packing;
    this.#packed = packed;
    this.#input = start;
    this.#decoder = decoder;
    this.#pieceBytes = pieceBytes;
  }

  async read(target: Uint8Array, at: number, lengthBytes: number): Promise<number> {
    while (this.#unpacked.isEmpty) {
      if (this.#ended) return 0;
      await this.#feed();
    }
    return this.#unpacked.take(target, at, lengthBytes);
  }

  async #feed(): Promise<void> {
    let input = this.#input.subarray(0, this.#pieceBytes);
    this.#input = this.#input.subarray(input.length);
    if (input.length === 0) {
      const piece = new Uint8Array(this.#pieceBytes);
      input = piece.subarray(0, await this.#packed.read(piece, 0, piece.length));
    }
    if (input.length === 0) this.#ended = true;
    try {
      await this.#decoder.push(input, this.#unpacked);
    } catch (error) {
      if (error instanceof PcacheError) throw error;
      this.#ended = true;
      if (error instanceof CutShort) {
        this.cutShort = true;
        return;
      }
      throw new PcacheError(
        'BAD_TRACE',
        `${this.name}: damaged ${this.packing} data (${(error as Error).message}); copy or compress it again`,
        { cause: error },
      );
    }
  }

  async close(): Promise<void> {
    await this.#decoder.close?.();
    await this.#packed.close();
  }
}
