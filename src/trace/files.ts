/**
 * Which files TRACE means. An existing file is that file alone; otherwise it is the base name of a recording
 * with one file per CPU, as blktrace names them: `NAME.blktrace.CPU`, each also as `.gz` or `.zst`.
 */
import { readdir, stat } from 'node:fs/promises';
import type { Stats } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fromSystemError, PcacheError } from '../engine/errors.js';

/** Standard input's name on the command line. */
export const STDIN_PATH = '-';

export interface TraceFiles {
  /** In the order of their CPUs. */
  readonly paths: readonly string[];
  readonly warnings: readonly string[];
}

async function statOf(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw fromSystemError(error, path, 'looking for the trace');
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw fromSystemError(error, directory, 'listing the files of the trace');
  }
}

/** Throws NOT_FOUND, NO_ACCESS, NOT_A_DEVICE (a directory) or IO. */
export async function findTraceFiles(path: string): Promise<TraceFiles> {
  const stats = await statOf(path);
  if (stats !== undefined && !stats.isDirectory()) return { paths: [path], warnings: [] };
  const base = `${basename(path).replace(/\.blktrace$/, '')}.blktrace`;
  /** The names of a CPU's file by what is behind its number. */
  const byCpu = new Map<number, Map<string, string>>();
  for (const name of await namesIn(dirname(path))) {
    const match = name.startsWith(`${base}.`) ? /^(\d+)(\.gz|\.zst)?$/.exec(name.slice(base.length + 1)) : null;
    if (match === null) continue;
    const cpu = Number(match[1]);
    const found = byCpu.get(cpu) ?? new Map<string, string>();
    found.set(match[2] ?? '', join(dirname(path), name));
    byCpu.set(cpu, found);
  }
  if (byCpu.size === 0) throw notFound(path, base, stats !== undefined);
  const paths: string[] = [];
  const warnings: string[] = [];
  for (const [, found] of [...byCpu].sort(([a], [b]) => a - b)) {
    const [chosen, ...others] = ['', '.gz', '.zst'].map((end) => found.get(end)).filter((name) => name !== undefined);
    paths.push(chosen);
    for (const other of others) warnings.push(`${other}: passed over, since ${chosen} is there too`);
  }
  return { paths, warnings };
}

function notFound(path: string, base: string, isDirectory: boolean): PcacheError {
  if (isDirectory)
    return fromSystemError(Object.assign(new Error('is a directory'), { code: 'EISDIR' }), path, 'reading the trace');
  return new PcacheError('NOT_FOUND', `${path}: no such file, and no ${base}.0 or the like there; check the path`);
}

/** True when TRACE can be read only once (standard input, a pipe), so that a second pass needs a spooled copy. */
export async function isReadableOnce(path: string): Promise<boolean> {
  if (path === STDIN_PATH) return true;
  const stats = await statOf(path);
  return stats !== undefined && !stats.isFile() && !stats.isDirectory() && !stats.isBlockDevice();
}
