/**
 * A pid file: created where nothing is, without following links, and removed only while it is still the file that
 * was created. The file of a process that has ended is taken over. The open file keeps its inode from being reused.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, readlinkSync, readSync, writeSync } from 'node:fs';
import { basename } from 'node:path';
import { fromSystemError } from '../engine/errors.js';
import { inodeAt, removeIfSame, removeStale, statusOf, takenError, type Inode } from './owned-name.js';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;
const MODE = 0o644;
/** Longest content that is taken for a pid. */
const PID_BYTES_MAX = 32;
/** How often a file that appears between two looks is looked at again. */
const TRIES = 10;

const ownPid = (): number => Number(readlinkSync('/proc/self'));

export class PidFile {
  private constructor(
    private readonly path: string,
    private readonly fd: number,
    private readonly inode: Inode,
  ) {}

  /** @throws PcacheError BUSY where something is that is not the pid file of a process that has ended */
  static create(path: string): PidFile {
    try {
      for (let attempt = 1; ; attempt++) {
        const fd = createNew(path);
        if (fd !== undefined) return PidFile.write(path, fd);
        takeOver(path, attempt === TRIES);
      }
    } catch (error) {
      throw fromSystemError(error, path, 'creating the pid file');
    }
  }

  private static write(path: string, fd: number): PidFile {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    const file = new PidFile(path, fd, { device: dev, inode: ino });
    try {
      writeSync(fd, `${ownPid()}\n`);
    } catch (error) {
      file.remove();
      throw error;
    }
    return file;
  }

  /** Removes it, if it is still there. */
  remove(): void {
    removeIfSame(this.path, this.inode);
    closeSync(this.fd);
  }
}

/** @returns an open file; undefined where something is already. */
function createNew(path: string): number | undefined {
  try {
    return openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, MODE);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return undefined;
    throw error;
  }
}

/** Removes what is at `path` when it is a stale pid file. @throws PcacheError BUSY when it is anything else */
function takeOver(path: string, isLast: boolean): void {
  const remedy = 'remove it, or give another --pid-file';
  const inode = inodeAt(path);
  if (inode === undefined) return;
  if (!statusOf(path)?.isFile()) throw takenError(path, 'exists and is not a regular file', remedy);
  const text = readStart(path);
  if (!/^\d+\n?$/.test(text)) throw takenError(path, 'exists and is not a pid file', remedy);
  const pid = Number(text);
  const name = processName(pid);
  if (pid !== ownPid() && name !== undefined) {
    throw takenError(path, `is the pid file of process ${pid} (${name})`, 'stop it, or give another --pid-file');
  }
  removeStale(path, inode);
  if (isLast) throw takenError(path, 'is created again and again by another process', 'give another --pid-file');
}

function readStart(path: string): string {
  const fd = openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const bytes = Buffer.alloc(PID_BYTES_MAX);
    return bytes.toString('latin1', 0, readSync(fd, bytes));
  } finally {
    closeSync(fd);
  }
}

/** @returns undefined when no such process runs. */
function processName(pid: number): string | undefined {
  try {
    const [command] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return basename(command);
  } catch {
    return undefined;
  }
}
