/**
 * Keeps what can be read only once in a file, for a replay that needs two passes. As it came, packed or not:
 * the file is recognised by its content like any other.
 */
import { createReadStream } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromSystemError } from '../engine/errors.js';
import { openStream, StreamSource, type StreamOptions } from './bytes.js';
import { isReadableOnce, traceName } from './files.js';

const PIECE_BYTES = 256 * 1024;

/**
 * Calls `body` with a path that can be read more than once: TRACE itself, or a copy of it that is gone afterwards.
 * @param input what `-` reads, and who hears of a pipe
 * @param body gets the path, and what to call the trace in messages if not so
 */
export async function withReadableTrace<T>(
  trace: string,
  input: StreamOptions,
  body: (path: string, name: string | undefined) => Promise<T>,
): Promise<T> {
  if (!(await isReadableOnce(trace))) return body(trace, undefined);
  const stream = (await openStream(trace, input)) ?? createReadStream(trace);
  const folder = await mkdtemp(join(tmpdir(), 'pcache-trace-')).catch((error: unknown) => {
    throw fromSystemError(error, `${tmpdir()} (TMPDIR, for a copy of the trace)`, 'making a copy of the trace');
  });
  try {
    const path = join(folder, 'trace');
    await spoolStream(traceName(trace), stream, path);
    return await body(path, traceName(trace));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Copies `stream` to the new file `path`, readable by its owner alone, which the caller removes after use; one
 * piece is in memory at a time. When it fails, the stream is destroyed and the file is gone.
 * Throws IO for the stream, and NO_SPACE, NO_ACCESS, NOT_FOUND or IO (also: it exists) for the file.
 * @returns bytes copied.
 */
export async function spoolStream(name: string, stream: NodeJS.ReadableStream, path: string): Promise<number> {
  const source = new StreamSource(name, stream);
  try {
    const file = await open(path, 'wx', 0o600).catch((error: unknown) => {
      throw fromSystemError(error, path, 'making a copy of the trace');
    });
    try {
      return await copy(source, file, path);
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    } finally {
      await file.close();
    }
  } finally {
    await source.close();
  }
}

async function copy(source: StreamSource, file: Awaited<ReturnType<typeof open>>, path: string): Promise<number> {
  const piece = new Uint8Array(PIECE_BYTES);
  let copiedBytes = 0;
  for (;;) {
    const got = await source.read(piece, 0, piece.length);
    if (got === 0) return copiedBytes;
    try {
      // writeFile, unlike write, goes on after a short write.
      await file.writeFile(piece.subarray(0, got));
    } catch (error) {
      throw fromSystemError(error, path, 'making a copy of the trace');
    }
    copiedBytes += got;
  }
}
