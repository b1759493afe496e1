/**
 * Where the bytes of a recording come from: a file, a stream, or either through gunzip. Pull only: nothing is
 * read ahead beyond one piece, so closing a source leaves nothing under way, and memory stays bounded.
 */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { Socket } from 'node:net';
import { PassThrough, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { Gunzip } from 'node:zlib';
import { assert, fromSystemError, PcacheError } from '../engine/errors.js';
import { isPipe, STDIN_PATH } from './files.js';
import type { TraceOptions } from './types.js';

export interface ByteSource {
  /** What to call it in errors and warnings. */
  readonly name: string;
  /**
   * Fills up to `lengthBytes` of `target` from `at`.
   * @returns bytes filled; 0 at the end. Throws a `PcacheError` that names the source.
   */
  read(target: Uint8Array, at: number, lengthBytes: number): Promise<number>;
  /** Lets go of everything below. Idempotent. */
  close(): Promise<void>;
}

const READING = 'reading the trace';

class FileSource implements ByteSource {
  readonly name: string;
  #handle: FileHandle | undefined;

  constructor(name: string, handle: FileHandle) {
    this.name = name;
    this.#handle = handle;
  }

  async read(target: Uint8Array, at: number, lengthBytes: number): Promise<number> {
    assert(this.#handle !== undefined, 'a closed trace file is read');
    try {
      return (await this.#handle.read(target, at, lengthBytes, null)).bytesRead;
    } catch (error) {
      throw fromSystemError(error, this.name, READING);
    }
  }

  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }
}

/** @param name what to call it, if not by its path */
export async function openFileSource(path: string, name = path): Promise<ByteSource> {
  try {
    return new FileSource(name, await open(path, 'r'));
  } catch (error) {
    throw fromSystemError(error, path, READING);
  }
}

/** How often a pipe is looked at that nobody has opened for writing yet. */
const PIPE_LOOK_MS = 50;

/** What `-` reads, and who hears of a pipe. */
export type StreamOptions = Pick<TraceOptions, 'stdin' | 'onPipe'>;

/** Opens standard input or a pipe by name. @returns undefined for anything else */
export async function openStream(
  trace: string,
  { stdin, onPipe }: StreamOptions,
): Promise<NodeJS.ReadableStream | undefined> {
  if (trace === STDIN_PATH) {
    assert(stdin !== undefined, 'reading a trace from - needs a stream');
    return stdin;
  }
  if (!(await isPipe(trace))) return undefined;
  const pipe = openPipe(trace);
  onPipe?.(pipe);
  return pipe;
}

/**
 * Opens a pipe by name, whose other end nobody may have opened yet. No thread waits for that: destroying the stream ends
 * the wait.
 */
function openPipe(path: string): Readable {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw fromSystemError(error, path, READING);
  }
  const stream = new PassThrough();
  let socket: Socket | undefined;
  let timer: NodeJS.Timeout | undefined;
  const look = (): void => {
    let piece: Buffer | undefined;
    try {
      piece = readNow(fd);
    } catch (error) {
      stream.destroy(error as Error);
      return;
    }
    if (piece?.length === 0) {
      timer = setTimeout(look, PIPE_LOOK_MS); // nobody writes yet: that is not the end
      return;
    }
    if (piece !== undefined) stream.write(piece);
    socket = new Socket({ fd, readable: true, writable: false });
    socket.on('error', (error) => stream.destroy(error)).pipe(stream);
  };
  stream.once('close', () => {
    clearTimeout(timer);
    if (socket) socket.destroy();
    else closeSync(fd);
  });
  look();
  return stream;
}

/** @returns what is in the pipe; nothing where no writer has it open, undefined where one has and there is nothing yet */
function readNow(fd: number): Buffer | undefined {
  const piece = Buffer.alloc(PACKED_PIECE_BYTES);
  try {
    return piece.subarray(0, readSync(fd, piece));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return undefined;
    throw error;
  }
}

/** Reads a stream that somebody else opened; closing destroys it, so that its writer notices. */
export class StreamSource implements ByteSource {
  readonly name: string;
  readonly #stream: Readable;
  readonly #chunks: AsyncIterator<unknown>;
  #chunk: Uint8Array = new Uint8Array(0);

  constructor(name: string, stream: NodeJS.ReadableStream) {
    this.name = name;
    this.#stream = stream instanceof Readable ? stream : new Readable().wrap(stream);
    this.#stream.on('error', () => {}); // may come before the first read, which then throws it
    this.#chunks = this.#stream[Symbol.asyncIterator]() as AsyncIterator<unknown>;
  }

  async read(target: Uint8Array, at: number, lengthBytes: number): Promise<number> {
    while (this.#chunk.length === 0) {
      const next = await this.#next();
      if (next === undefined) return 0;
      this.#chunk = next;
    }
    const piece = this.#chunk.subarray(0, lengthBytes);
    target.set(piece, at);
    this.#chunk = this.#chunk.subarray(piece.length);
    return piece.length;
  }

  async #next(): Promise<Uint8Array | undefined> {
    let result: IteratorResult<unknown>;
    try {
      result = await this.#chunks.next();
    } catch (error) {
      throw fromSystemError(error, this.name, READING);
    }
    if (result.done === true) return undefined;
    assert(result.value instanceof Uint8Array, 'a trace stream must be binary');
    return result.value;
  }

  close(): Promise<void> {
    // Not the iterator's return(): that waits behind a next() that may never come.
    this.#stream.destroy();
    return Promise.resolve();
  }
}

/** What was unpacked and not read yet, in order. */
export class Pieces {
  readonly #pieces: Uint8Array[] = [];

  get isEmpty(): boolean {
    return this.#pieces.length === 0;
  }

  push(piece: Uint8Array): void {
    this.#pieces.push(piece);
  }

  /** Moves up to `lengthBytes` of the first piece, which there must be, to `target`. @returns how many. */
  take(target: Uint8Array, at: number, lengthBytes: number): number {
    const first = this.#pieces[0];
    const piece = first.subarray(0, lengthBytes);
    target.set(piece, at);
    if (piece.length === first.length) this.#pieces.shift();
    else this.#pieces[0] = first.subarray(piece.length);
    return piece.length;
  }
}

/** Small enough that the most a piece can unpack to (about 1000 times its size) stays bearable. */
const PACKED_PIECE_BYTES = 32 * 1024;

/**
 * Unpacks another source. It hands zlib one piece at a time and takes all that comes of it before the next,
 * because a stream that ends in an error drops what it still holds: a recording cut short inside its gzip data
 * would lose records that are there.
 */
export class GunzipSource implements ByteSource {
  readonly packing = 'gzip';
  readonly name: string;
  /** Set once the packed data ended early; what came before was delivered. */
  cutShort = false;
  readonly #packed: ByteSource;
  readonly #gunzip: Gunzip = createGunzip({ chunkSize: 64 * 1024 });
  readonly #unpacked = new Pieces();
  #input: Uint8Array;
  #ended = false;
  #error: Error | undefined;
  /** Wakes `#feed` up; zlib calls back for a piece, or ends, or fails, and only one of these. */
  #wake: (() => void) | undefined;

  /** @param start bytes already taken from `packed`. */
  constructor(packed: ByteSource, start: Uint8Array) {
    this.name = packed.name;
    this.#packed = packed;
    this.#input = start;
    this.#gunzip.on('data', (piece: Buffer) => this.#unpacked.push(piece));
    this.#gunzip.on('end', () => {
      this.#ended = true;
      this.#wake?.();
    });
    this.#gunzip.on('error', (error: Error) => {
      this.#ended = true;
      this.#error = error;
      this.#wake?.();
    });
  }

  async read(target: Uint8Array, at: number, lengthBytes: number): Promise<number> {
    while (this.#unpacked.isEmpty) {
      if (this.#ended) return this.#finish();
      await this.#feed();
    }
    return this.#unpacked.take(target, at, lengthBytes);
  }

  async #feed(): Promise<void> {
    let input = this.#input.subarray(0, PACKED_PIECE_BYTES);
    this.#input = this.#input.subarray(input.length);
    if (input.length === 0) {
      const piece = new Uint8Array(PACKED_PIECE_BYTES);
      input = piece.subarray(0, await this.#packed.read(piece, 0, piece.length));
    }
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (input.length === 0) this.#gunzip.end();
      else this.#gunzip.write(input, () => setImmediate(resolve));
    });
    this.#wake = undefined;
  }

  #finish(): number {
    const error = this.#error as NodeJS.ErrnoException | undefined;
    if (error === undefined) return 0;
    if (error.code === 'Z_BUF_ERROR') {
      this.cutShort = true;
      return 0;
    }
    throw new PcacheError(
      'BAD_TRACE',
      `${this.name}: damaged gzip data (${error.message}); copy or compress it again`,
      {
        cause: error,
      },
    );
  }

  async close(): Promise<void> {
    this.#gunzip.destroy();
    await this.#packed.close();
  }
}
