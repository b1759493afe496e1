/**
 * The bytes of a trace as they were before somebody packed them: how they were packed is recognised by how they begin,
 * layer by layer (a .tgz has two).
 */
import { isTarHeader, isZip, TarDecoder, Utf16Decoder, utf16Of, ZipDecoder } from './archives.js';
import { GunzipSource } from './bytes.js';
import type { ByteSource } from './bytes.js';
import { Bzip2Decoder, Lz4Decoder, XzDecoder, ZstdDecoder } from './decoders.js';
import { PushedSource } from './pushed-source.js';

export interface UnpackedSource extends ByteSource {
  /** How it was packed, if it was; several names with commas between them, the outermost first. */
  readonly packing: string | undefined;
  /** Set once the packed data ended early; what came before was delivered. */
  readonly cutShort: boolean;
}

/** Layers that are unpacked; more are taken for an attack. */
const LAYERS_MAX = 4;
/** The most that a packing is recognised by: a tar's header. */
const HEAD_BYTES = 512;
/** Small enough that the most a piece can unpack to stays bearable. */
const PIECE_BYTES = {
  gzip: 32 * 1024,
  zstd: 4 * 1024,
  bzip2: 32 * 1024,
  xz: 4 * 1024,
  lz4: 32 * 1024,
  other: 64 * 1024,
};
/** A skippable frame's magic, of zstd and lz4 alike, goes from here 16 up. */
const SKIPPABLE_MAGIC = 0x184d2a50;

type Unpacker = (source: ByteSource, start: Uint8Array) => UnpackedSource;

const pushed =
  (packing: keyof typeof PIECE_BYTES, decoder: () => ConstructorParameters<typeof PushedSource>[3]): Unpacker =>
  (source, start) =>
    new PushedSource(source, start, packing, decoder(), PIECE_BYTES[packing]);

const SIGNATURES: readonly { readonly start: readonly number[]; readonly unpack: Unpacker }[] = [
  { start: [0x1f, 0x8b], unpack: (source, start) => new GunzipSource(source, start) },
  { start: [0x28, 0xb5, 0x2f, 0xfd], unpack: pushed('zstd', () => new ZstdDecoder()) },
  { start: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], unpack: pushed('xz', () => new XzDecoder()) },
  { start: [0x04, 0x22, 0x4d, 0x18], unpack: pushed('lz4', () => new Lz4Decoder()) },
];

function unpackerOf(bytes: Uint8Array): Unpacker | undefined {
  const found = SIGNATURES.find(({ start }) => start.every((byte, i) => bytes[i] === byte));
  if (found !== undefined) return found.unpack;
  if (bytes.length < 4) return undefined;
  const magic = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true);
  if ((magic & ~0xf) >>> 0 === SKIPPABLE_MAGIC) return SIGNATURES[1].unpack;
  // "BZh", the block size, and the number that a block or the end begins with.
  const isBzip2 = bytes[0] === 0x42 && bytes[1] === 0x5a && bytes[2] === 0x68 && bytes[3] >= 0x31 && bytes[3] <= 0x39;
  if (isBzip2 && (bytes[4] === 0x31 || bytes[4] === 0x17)) return pushed('bzip2', () => new Bzip2Decoder());
  const archive =
    (packing: string, decoder: ConstructorParameters<typeof PushedSource>[3]): Unpacker =>
    (source, start) =>
      new PushedSource(source, start, packing, decoder, PIECE_BYTES.other);
  if (isZip(bytes)) return (source, start) => archive('zip', new ZipDecoder(source.name))(source, start);
  if (isTarHeader(bytes)) return (source, start) => archive('tar', new TarDecoder(source.name))(source, start);
  const encoding = utf16Of(bytes);
  return encoding === undefined ? undefined : archive('UTF-16', new Utf16Decoder(encoding));
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
  let outer: ByteSource = source;
  const layers: UnpackedSource[] = [];
  try {
    for (;;) {
      const head = new Uint8Array(HEAD_BYTES);
      const start = head.subarray(0, await fillAtLeast(outer, head, 0, HEAD_BYTES));
      const unpack = layers.length < LAYERS_MAX ? unpackerOf(start) : undefined;
      if (unpack === undefined) return new UnpackedLayers(outer, start, layers);
      const layer = unpack(outer, start);
      layers.push(layer);
      outer = layer;
    }
  } catch (error) {
    await outer.close();
    throw error;
  }
}

/** The innermost source; gives what was already taken from it first. */
class UnpackedLayers implements UnpackedSource {
  readonly packing: string | undefined;
  readonly name: string;
  readonly #source: ByteSource;
  readonly #layers: readonly UnpackedSource[];
  #start: Uint8Array;

  constructor(source: ByteSource, start: Uint8Array, layers: readonly UnpackedSource[]) {
    this.name = source.name;
    this.#source = source;
    this.#start = start;
    this.#layers = layers;
    this.packing = layers.length === 0 ? undefined : layers.map(({ packing }) => packing).join(', ');
  }

  get cutShort(): boolean {
    return this.#layers.some(({ cutShort }) => cutShort);
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
