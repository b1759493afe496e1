/**
 * Names in a directory that this process creates and removes: pid files, sockets and temporary folders.
 *
 * Invariants: a name is created only where nothing is, without following symbolic links; it is removed only while
 * it still leads to the inode that was created. What anybody else has put there stays.
 */
import { linkSync, lstatSync, mkdtempSync, renameSync, rmdirSync, unlinkSync, type BigIntStats } from 'node:fs';
import { dirname } from 'node:path';
import { PcacheError } from '../engine/errors.js';

/** What a name leads to. */
export interface Inode {
  readonly device: bigint;
  readonly inode: bigint;
}

const inodeOf = ({ dev, ino }: BigIntStats): Inode => ({ device: dev, inode: ino });

/** Status of the name itself; undefined where there is nothing. @throws the system's error for anything else */
export function statusOf(path: string): BigIntStats | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false });
}

/** @returns undefined where there is nothing. */
export function inodeAt(path: string): Inode | undefined {
  const status = statusOf(path);
  return status && inodeOf(status);
}

export function isSameInode(a: Inode | undefined, b: Inode | undefined): boolean {
  return a !== undefined && b !== undefined && a.device === b.device && a.inode === b.inode;
}

/** Removes `path` if it is still `inode`. Never fails: a name that cannot be removed is left. */
export function removeIfSame(path: string, inode: Inode): void {
  try {
    if (isSameInode(inodeAt(path), inode)) unlinkSync(path);
  } catch {
    // Somebody has removed it, or the directory is not ours to change any more.
  }
}

/**
 * Removes `path`, which was found to be `inode` and stale. It is moved aside first: when another process has put
 * something new there meanwhile, that is moved back.
 * @returns whether the stale one is gone; false when there was something else.
 */
export function removeStale(path: string, inode: Inode): boolean {
  return inFolderBeside(path, (folder) => {
    const aside = `${folder}/s`;
    try {
      renameSync(path, aside);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return true;
      throw error;
    }
    const isStale = isSameInode(inodeAt(aside), inode);
    if (!isStale) {
      try {
        linkSync(aside, path);
      } catch {
        // Something newer is there by now.
      }
    }
    unlinkSync(aside);
    return isStale;
  });
}

/**
 * Runs `body` with a private folder beside `path`, and removes the folder. Its name is short, as the paths of
 * sockets have to be. It must be empty at the end.
 */
export function inFolderBeside<T>(path: string, body: (folder: string) => T): T {
  const folder = mkdtempSync(`${dirname(path)}/.`);
  const remove = (): void => {
    try {
      rmdirSync(folder);
    } catch {
      // Not empty after a failure: a name in it is not known to be ours to remove.
    }
  };
  let result: T;
  try {
    result = body(folder);
  } catch (error) {
    remove();
    throw error;
  }
  if (result instanceof Promise) return result.finally(remove) as T;
  remove();
  return result;
}

/** Refuses a name where something is that we have not made. */
export function takenError(path: string, what: string, remedy: string): PcacheError {
  return new PcacheError('BUSY', `${path}: ${what}; ${remedy}`);
}
