/**
 * What `format` works on: an existing file or device, or a file that it creates. Decides whether it may be
 * overwritten, and takes back a file that it created when formatting does not succeed.
 */
import { rmSync, statSync, type Stats } from 'node:fs';
import { openPmem, openPmemReader } from '../device/open.js';
import type { Pmem, PmemReader } from '../device/pmem.js';
import { fromSystemError, PcacheError, type PcacheErrorCode } from '../errors.js';
import { createFile, preallocateFile, refuseOddSize, resizeFile } from './file-space.js';
import { formatSteps, planFormat, type FormatOptions, type FormatPlan } from './create-cache.js';
import { describeExistingCache, existingCacheText } from './existing-cache.js';
import { KERNEL_GEOMETRY } from '../media/geometry.js';
import { findSignatures, signatureNames, type Signature } from './foreign-signatures.js';

export interface TargetOptions extends FormatOptions {
  readonly path: string;
  /** Size of the file to create, bytes; undefined for what exists. */
  readonly sizeBytes: number | undefined;
  /** Overwrite what is there, and give a file another size. */
  readonly force: boolean;
  /** Reserve the space of a file; undefined does it for a file that is created, where that writes nothing. */
  readonly preallocate?: boolean | undefined;
}

/** What formatting will do to `path`, decided before anything is changed. */
export interface FormatJob {
  readonly plan: FormatPlan;
  readonly creates: boolean;
  /** The size that an existing file has now, where it gets another one; bytes. */
  readonly resizesFromBytes: number | undefined;
  /** Is it a file, and not a device that the kernel could attach as it is? */
  readonly isFile: boolean;
  /** As in `TargetOptions`. */
  readonly preallocate: boolean | undefined;
  /** What is on it already, as a message names it; '' for nothing that is known. */
  readonly overwrites: string;
}

function statIfThere(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw fromSystemError(error, path, 'looking at it');
  }
}

/**
 * Decides what formatting `options.path` means. Changes nothing; reads an existing device under a shared lock.
 * @throws PcacheError NOT_FOUND, USAGE, TOO_SMALL, BUSY, FOREIGN_SIGNATURE and what opening throws
 */
export function planJob(options: TargetOptions): FormatJob {
  const { path, sizeBytes, force } = options;
  if (sizeBytes !== undefined) refuseOddSize(sizeBytes);
  const found = statIfThere(path);
  if (found === undefined) {
    if (sizeBytes === undefined) throw new PcacheError('NOT_FOUND', `${path}: no such file; give --size to create it`);
    return {
      plan: named(path, () => planFormat(sizeBytes, options)),
      creates: true,
      resizesFromBytes: undefined,
      isFile: true,
      preallocate: options.preallocate,
      overwrites: '',
    };
  }
  return planExisting(options, found, force);
}

function planExisting(options: TargetOptions, found: Stats, force: boolean): FormatJob {
  const { path, sizeBytes, preallocate } = options;
  const isFile = found.isFile();
  if (!isFile && sizeBytes !== undefined) {
    throw new PcacheError('USAGE', `${path}: is not a regular file, and --size is for those; a device is used whole`);
  }
  if (!isFile && preallocate === true) {
    throw new PcacheError('USAGE', `${path}: is not a regular file, and --preallocate is for those`);
  }
  const resizes = sizeBytes !== undefined && sizeBytes !== found.size;
  if (resizes && !force) {
    const remedy = 'leave --size out to use it as it is, or give --force to change its size';
    throw new PcacheError('USAGE', `${path}: exists with ${found.size} bytes, not ${sizeBytes}; ${remedy}`);
  }
  if (isFile && found.size === 0 && !resizes) {
    throw new PcacheError(
      'TOO_SMALL',
      `${path}: is an empty file; give --size and --force, or remove it and give --size`,
    );
  }
  // An empty file can't be opened as a device, and there is nothing on it.
  const present = isFile && found.size === 0 ? NOTHING_PRESENT : withReader(path, lookAt);
  const plan = named(path, () => planFormat(resizes ? sizeBytes : present.deviceBytes, options));
  if (!force) refuseToOverwrite(path, present);
  const resizesFromBytes = resizes ? found.size : undefined;
  return { plan, creates: false, resizesFromBytes, isFile, preallocate, overwrites: present.text };
}

/** What makes the cache on an open device: `formatSteps`, or something that puts contents in it too. */
export type FormatSteps = (pmem: Pmem, plan: FormatPlan, wipe: readonly Signature[]) => Generator<number, void>;

/** What is on a device already. */
interface Present {
  readonly deviceBytes: number;
  /** As a message names it; '' for nothing that is known. */
  readonly text: string;
  readonly code: PcacheErrorCode;
  readonly signatures: readonly Signature[];
}

const NOTHING_PRESENT: Present = { deviceBytes: 0, text: '', code: 'FOREIGN_SIGNATURE', signatures: [] };

function lookAt(reader: PmemReader): Present {
  const cache = describeExistingCache(reader, KERNEL_GEOMETRY);
  const signatures = findSignatures(reader);
  const texts = cache === undefined ? [] : [existingCacheText(cache)];
  if (signatures.length > 0) texts.push(signatureNames(signatures));
  const code = cache === undefined ? 'FOREIGN_SIGNATURE' : 'ALREADY_PCACHE';
  return { deviceBytes: reader.sizeBytes, text: texts.join('; and '), code, signatures };
}

function refuseToOverwrite(path: string, present: Present): void {
  if (present.text === '') return;
  throw new PcacheError(present.code, `${path}: not empty: ${present.text}; give --force to overwrite it`);
}

function withReader<T>(path: string, use: (reader: PmemReader) => T): T {
  const reader = openPmemReader(path);
  try {
    return use(reader);
  } finally {
    reader.close();
  }
}

/** Puts the path before a message of `planFormat`, which knows only a size. */
function named<T>(path: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    if (error instanceof PcacheError && error.code === 'TOO_SMALL') {
      throw new PcacheError(error.code, `${path}: ${error.message}`, { cause: error });
    }
    throw error;
  }
}

/**
 * Does what `planJob` decided, yielding what `steps` does: with the default the number of segments done. A generator
 * that is not run to its end (`return()`) or that throws removes the file if it created it. What else was found on the
 * device goes.
 * @throws PcacheError as opening and writing do; as `planJob` if somebody put something there meanwhile
 */
export function* runJob(
  path: string,
  job: FormatJob,
  force: boolean,
  steps: FormatSteps = formatSteps,
): Generator<number, void> {
  const { deviceBytes } = job.plan;
  if (job.creates) createFile(path, deviceBytes, job.preallocate);
  let done = false;
  try {
    if (job.resizesFromBytes !== undefined) resize(path, job.resizesFromBytes, deviceBytes);
    if (!job.creates && job.preallocate === true) preallocateFile(path, deviceBytes);
    const pmem = openPmem(path, { isScattered: true });
    try {
      const present = lookAt(pmem);
      if (!force) refuseToOverwrite(path, present);
      yield* steps(pmem, job.plan, present.signatures);
    } finally {
      pmem.close();
    }
    done = true;
  } finally {
    if (!done && job.creates) rmSync(path, { force: true });
  }
}

/** Shrinking a file that another process has mapped would kill that process: so it must be free just before. */
function resize(path: string, fromBytes: number, toBytes: number): void {
  if (fromBytes > 0) openPmem(path).close();
  resizeFile(path, toBytes);
}
