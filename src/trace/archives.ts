/**
 * Archives that hold one file: zip, as downloaded, and tar. One of several files is refused, since nothing tells which
 * of them is the trace.
 */
import { TextDecoder } from 'node:util';
import { crc32, createInflateRaw } from 'node:zlib';
import { PcacheError } from '../engine/errors.js';
import type { Pieces } from './bytes.js';
import { shownText } from './field-reader.js';
import { CutShort } from './pushed-source.js';
import type { Decoder } from './pushed-source.js';

const ZIP_FILE_MAGIC = 0x04034b50;
const ZIP_DIRECTORY_MAGIC = 0x02014b50;
const ZIP_HEADER_BYTES = 30;
const STORED = 0;
const DEFLATED = 8;
const SIZE_BEHIND_DATA = 8;
const ENCRYPTED = 1;
const SIZE_IN_EXTRA_FIELD = 0xffffffff;
/** Behind the data there may be this magic, then the CRC, then sizes. */
const ZIP_DESCRIPTOR_MAGIC = 0x08074b50;
const ZIP_DESCRIPTOR_BYTES_MIN = 8;

function severalFiles(name: string, kind: string, files: readonly string[], unpack: string): PcacheError {
  return new PcacheError(
    'BAD_TRACE',
    `${name}: a ${kind} of several files (${files.map((file) => shownText(file)).join(', ')}, …); unpack it with ${unpack} and give one of them`,
  );
}

export class ZipDecoder implements Decoder {
  readonly #name: string;
  #input = Buffer.alloc(0);
  #state: 'header' | 'deflated' | 'stored' | 'behind' = 'header';
  #file = '';
  #left = 0;
  #crc = 0;
  /** What it must be; undefined while it is still to come, behind the data. */
  #crcWanted: number | undefined;
  readonly #inflate = createInflateRaw({ chunkSize: 64 * 1024 });
  #inflated = false;
  #error: Error | undefined;

  constructor(name: string) {
    this.#name = name;
    this.#inflate.on('end', () => {
      this.#inflated = true;
    });
    this.#inflate.on('error', (error) => {
      this.#error = error;
    });
  }

  async push(piece: Uint8Array, output: Pieces): Promise<void> {
    this.#input = Buffer.concat([this.#input, piece]);
    if (this.#state === 'header' && !this.#header()) {
      if (piece.length === 0) throw new CutShort();
      return;
    }
    if (this.#state === 'stored') {
      const bytes = Math.min(this.#left, this.#input.length);
      if (bytes > 0) this.#deliver(Uint8Array.from(this.#input.subarray(0, bytes)), output);
      this.#input = this.#input.subarray(bytes);
      this.#left -= bytes;
      if (this.#left === 0) this.#state = 'behind';
    }
    if (this.#state === 'deflated') await this.#inflatePiece(output, piece.length === 0);
    if (this.#state === 'behind') this.#behind(piece.length === 0);
    else if (piece.length === 0) throw new CutShort();
  }

  #deliver(bytes: Uint8Array, output: Pieces): void {
    this.#crc = crc32(bytes, this.#crc);
    output.push(bytes);
  }

  /** @returns false when more data are needed */
  #header(): boolean {
    for (;;) {
      const input = this.#input;
      if (input.length < ZIP_HEADER_BYTES) return false;
      if (input.readUInt32LE(0) !== ZIP_FILE_MAGIC) throw new Error('it holds no file');
      const [flags, method] = [input.readUInt16LE(6), input.readUInt16LE(8)];
      const size = input.readUInt32LE(18);
      const crc = input.readUInt32LE(14);
      const nameBytes = input.readUInt16LE(26);
      const bytes = ZIP_HEADER_BYTES + nameBytes + input.readUInt16LE(28);
      if (input.length < bytes) return false;
      this.#file = input.subarray(ZIP_HEADER_BYTES, ZIP_HEADER_BYTES + nameBytes).toString('utf8');
      this.#input = input.subarray(bytes);
      if (this.#file.endsWith('/')) continue; // a folder
      const known = (flags & SIZE_BEHIND_DATA) === 0 && size !== SIZE_IN_EXTRA_FIELD;
      if ((flags & ENCRYPTED) !== 0 || (method !== DEFLATED && !(method === STORED && known))) {
        throw new PcacheError('BAD_TRACE', `${this.#name}: a zip that is not deflated; unpack it with unzip`);
      }
      this.#state = method === DEFLATED ? 'deflated' : 'stored';
      this.#left = size;
      this.#crcWanted = (flags & SIZE_BEHIND_DATA) === 0 ? crc : undefined;
      return true;
    }
  }

  async #inflatePiece(output: Pieces, atEnd: boolean): Promise<void> {
    const before = this.#inflate.bytesWritten;
    const input = this.#input;
    this.#input = Buffer.alloc(0);
    if (input.length > 0) {
      await new Promise<void>((resolve) => {
        this.#inflate.once('error', () => resolve());
        this.#inflate.once('end', () => resolve());
        this.#inflate.write(input, () => setImmediate(resolve));
        this.#inflate.on('data', (got: Buffer) => this.#deliver(got, output));
      });
      this.#inflate.removeAllListeners('data');
    }
    if (this.#error !== undefined) throw this.#error;
    if (this.#inflated) {
      this.#input = input.subarray(this.#inflate.bytesWritten - before);
      this.#state = 'behind';
    } else if (atEnd) throw new CutShort();
  }

  /** Behind the file there may be its size and checksum, and then the directory, or another file. */
  #behind(atEnd: boolean): void {
    if (this.#crcWanted === undefined) {
      if (this.#input.length < ZIP_DESCRIPTOR_BYTES_MIN) {
        if (atEnd) throw new CutShort();
        return;
      }
      const hasMagic = this.#input.readUInt32LE(0) === ZIP_DESCRIPTOR_MAGIC;
      this.#crcWanted = this.#input.readUInt32LE(hasMagic ? 4 : 0);
    }
    if (this.#crc !== this.#crcWanted) throw new Error('the checksum does not match');
    for (let at = 0; at < this.#input.length - 3 && at <= 24; at++) {
      const magic = this.#input.readUInt32LE(at);
      if (magic === ZIP_DIRECTORY_MAGIC) break;
      if (magic === ZIP_FILE_MAGIC) throw severalFiles(this.#name, 'zip', [this.#file], 'unzip');
    }
    this.#input = Buffer.alloc(0);
  }

  close(): void {
    this.#inflate.destroy();
  }
}

const TAR_BLOCK_BYTES = 512;
const TAR_CHECKSUM = { at: 148, length: 8 } as const;

function octal(block: Uint8Array, at: number, length: number): number {
  if ((block[at] & 0x80) !== 0) {
    let value = 0;
    for (let i = at + length - 6; i < at + length; i++) value = value * 256 + block[i];
    return value;
  }
  const text = Buffer.from(block.subarray(at, at + length))
    .toString('latin1')
    .replace(/[\0 ].*$/s, '')
    .trim();
  return /^[0-7]+$/.test(text) ? parseInt(text, 8) : 0;
}

/** Whether a tar begins with `block`: its checksum says so. */
export function isTarHeader(block: Uint8Array): boolean {
  if (block.length < TAR_BLOCK_BYTES || block[0] === 0) return false;
  let sum = 0;
  for (let i = 0; i < TAR_BLOCK_BYTES; i++) {
    const isChecksum = i >= TAR_CHECKSUM.at && i < TAR_CHECKSUM.at + TAR_CHECKSUM.length;
    sum += isChecksum ? 0x20 : block[i];
  }
  const text = Buffer.from(block.subarray(TAR_CHECKSUM.at, TAR_CHECKSUM.at + TAR_CHECKSUM.length)).toString('latin1');
  const stored = /^\s*([0-7]{3,7})[\0 ]/.exec(text);
  return stored !== null && parseInt(stored[1], 8) === sum;
}

export class TarDecoder implements Decoder {
  readonly #name: string;
  #input = Buffer.alloc(0);
  /** Bytes of the file that are still to come, and of what is passed over, up to a whole block. */
  #left = 0;
  #skip = 0;
  #file: string | undefined;
  #ended = false;

  constructor(name: string) {
    this.#name = name;
  }

  push(piece: Uint8Array, output: Pieces): void {
    this.#input = Buffer.concat([this.#input, piece]);
    while (this.#step(output));
    if (piece.length === 0 && !this.#ended && (this.#left > 0 || this.#input.length > 0)) throw new CutShort();
  }

  #step(output: Pieces): boolean {
    if (this.#ended) {
      this.#input = Buffer.alloc(0);
      return false;
    }
    if (this.#left > 0 || this.#skip > 0) {
      const kept = Math.min(this.#left, this.#input.length);
      if (kept > 0) output.push(Uint8Array.from(this.#input.subarray(0, kept)));
      const passed = Math.min(this.#skip, this.#input.length - kept);
      this.#left -= kept;
      this.#skip -= passed;
      this.#input = this.#input.subarray(kept + passed);
      return kept + passed > 0;
    }
    if (this.#input.length < TAR_BLOCK_BYTES) return false;
    const block = this.#input.subarray(0, TAR_BLOCK_BYTES);
    this.#input = this.#input.subarray(TAR_BLOCK_BYTES);
    if (block.every((byte) => byte === 0)) {
      this.#ended = true;
      return true;
    }
    if (!isTarHeader(block)) throw new Error('a header has a wrong checksum');
    this.#begin(block);
    return true;
  }

  #begin(block: Buffer): void {
    const size = octal(block, 124, 12);
    const padding = (TAR_BLOCK_BYTES - (size % TAR_BLOCK_BYTES)) % TAR_BLOCK_BYTES;
    const type = String.fromCharCode(block[156]);
    const isFile = type === '0' || type === '\0' || type === '7';
    if (!isFile || size === 0) {
      this.#skip = size + padding;
      return;
    }
    const file = block.subarray(0, 100).toString('utf8').replace(/\0.*$/s, '');
    if (this.#file !== undefined) throw severalFiles(this.#name, 'tar', [this.#file, file], 'tar -xf');
    this.#file = file;
    this.#left = size;
    this.#skip = padding;
  }
}

export function isZip(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && bytes[0] === 0x50 && bytes[1] === 0x4b && bytes[2] === 3 && bytes[3] === 4;
}

/** Text in UTF-16, which some tools of Windows write, as UTF-8. */
export class Utf16Decoder implements Decoder {
  readonly #decoder: TextDecoder;

  constructor(encoding: 'utf-16le' | 'utf-16be') {
    this.#decoder = new TextDecoder(encoding);
  }

  push(piece: Uint8Array, output: Pieces): void {
    const text = this.#decoder.decode(piece, { stream: piece.length > 0 });
    if (text !== '') output.push(Buffer.from(text, 'utf8'));
  }
}

/** How a text in UTF-16 begins: with a byte order mark, or with characters every second byte of which is 0. */
export function utf16Of(bytes: Uint8Array): 'utf-16le' | 'utf-16be' | undefined {
  if (bytes.length < 4) return undefined;
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return 'utf-16le';
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return 'utf-16be';
  const printable = (at: number): boolean =>
    (bytes[at] >= 0x20 && bytes[at] < 0x7f) || bytes[at] === 9 || bytes[at] === 10 || bytes[at] === 13;
  const length = Math.min(bytes.length, 64) & ~1;
  let [little, big] = [length >= 16, length >= 16];
  for (let at = 0; at < length; at += 2) {
    little &&= printable(at) && bytes[at + 1] === 0;
    big &&= bytes[at] === 0 && printable(at + 1);
  }
  return little ? 'utf-16le' : big ? 'utf-16be' : undefined;
}
