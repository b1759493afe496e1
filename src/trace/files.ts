/**
 * Which files TRACE means. A file of a blktrace recording, `NAME.blktrace.CPU`, and its base name mean all of its files,
 * one for each CPU and each perhaps packed; any other existing file is that file alone.
 */
import { readdir, stat } from 'node:fs/promises';
import type { Stats } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fromSystemError, PcacheError } from '../engine/errors.js';
import { counted } from './counted.js';

const PACKED_ENDS = ['', '.gz', '.zst', '.xz', '.lz4', '.bz2'] as const;
const CPU_NUMBER = /^(\d{1,5})(\.gz|\.zst|\.xz|\.lz4|\.bz2)?$/;
const CPU_FILE = /^(.+\.blktrace)\.\d{1,5}(?:\.gz|\.zst|\.xz|\.lz4|\.bz2)?$/;
/** Linux has no more. */
const CPUS_MAX = 8192;

/** Standard input's name on the command line. */
export const STDIN_PATH = '-';

/** What to call a trace in messages. */
export function traceName(trace: string): string {
  return trace === STDIN_PATH ? 'standard input' : trace;
}

export interface TraceFiles {
  /** In the order of their CPUs. */
  readonly paths: readonly string[];
  readonly warnings: readonly string[];
  /** Files of CPUs between others that are not there. */
  readonly missing: number;
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
  const alone = { paths: [path], warnings: [], missing: 0 };
  const isFile = stats !== undefined && !stats.isDirectory();
  const given = isFile ? CPU_FILE.exec(basename(path)) : null;
  if (isFile && given === null) return alone;
  const base = given?.[1] ?? `${basename(path).replace(/\.blktrace$/, '')}.blktrace`;
  /** The names of a CPU's file by what is behind its number. */
  const byCpu = new Map<number, Map<string, string>>();
  for (const name of await namesIn(dirname(path))) {
    const match = name.startsWith(`${base}.`) ? CPU_NUMBER.exec(name.slice(base.length + 1)) : null;
    if (match === null) continue;
    const cpu = Number(match[1]);
    const found = byCpu.get(cpu) ?? new Map<string, string>();
    found.set(match[2] ?? '', join(dirname(path), name));
    byCpu.set(cpu, found);
  }
  if (byCpu.size === 0 || (given !== null && byCpu.size === 1)) {
    if (given !== null) return alone;
    throw notFound(path, base, stats !== undefined);
  }
  const paths: string[] = [];
  const warnings: string[] = [];
  for (const [, found] of [...byCpu].sort(([a], [b]) => a - b)) {
    const [chosen, ...others] = PACKED_ENDS.map((end) => found.get(end)).filter((name) => name !== undefined);
    paths.push(chosen);
    for (const other of others) warnings.push(`${other}: passed over, since ${chosen} is there too`);
  }
  if (given !== null)
    warnings.push(`${path}: read with the ${counted(paths.length - 1, 'other file')} of its recording`);
  const last = Math.max(...byCpu.keys());
  const missing = Array.from({ length: Math.min(last, CPUS_MAX) }, (_, cpu) => cpu).filter((cpu) => !byCpu.has(cpu));
  if (missing.length > 0) {
    const list = missing.slice(0, 8).join(', ') + (missing.length > 8 ? ', …' : '');
    warnings.push(
      `${path}: ${missing.length === 1 ? '1 file of the recording is' : `${missing.length} files of the recording are`} missing, of CPU ${list}; requests of these CPUs are not counted`,
    );
  }
  return { paths, warnings, missing: missing.length };
}

function notFound(path: string, base: string, isDirectory: boolean): PcacheError {
  if (isDirectory)
    return fromSystemError(Object.assign(new Error('is a directory'), { code: 'EISDIR' }), path, 'reading the trace');
  return new PcacheError('NOT_FOUND', `${path}: no such file, and no ${base}.0 or the like there; check the path`);
}

/** True for a pipe by name. */
export async function isPipe(path: string): Promise<boolean> {
  return (await statOf(path))?.isFIFO() === true;
}

/** True when TRACE can be read only once (standard input, a pipe), so that a second pass needs a spooled copy. */
export async function isReadableOnce(path: string): Promise<boolean> {
  if (path === STDIN_PATH) return true;
  const stats = await statOf(path);
  return stats !== undefined && !stats.isFile() && !stats.isDirectory() && !stats.isBlockDevice();
}
