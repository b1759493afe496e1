/**
 * The file of a report. Whether it can be written is found out before the replay, which may take hours; it is written
 * beside its place and renamed, so that there is never half a report. An existing file is overwritten only if it is a
 * report itself.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fromSystemError, PcacheError } from '../engine/errors.js';
import { GENERATOR_TAG } from './page.js';

/** Where a report says that it is one. */
const HEAD_BYTES = 1024;

export class ReportFile {
  /** The file itself, behind symbolic links. */
  private readonly target: string;

  /**
   * Makes sure that a report can be put there.
   * @throws PcacheError USAGE for a file that is something else; NOT_FOUND, IO, … for a place that can't be written.
   */
  constructor(readonly path: string) {
    this.target = this.resolve();
    this.write('', true);
  }

  private resolve(): string {
    let target: string;
    try {
      target = realpathSync(this.path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return this.path;
      throw fromSystemError(error, this.path, 'writing the report');
    }
    if (!statSync(target).isFile()) {
      throw new PcacheError('USAGE', `${this.path}: not a regular file; give the report a name of its own`);
    }
    if (!isReport(target)) {
      throw new PcacheError(
        'USAGE',
        `${this.path}: exists and is not a report of pcache; remove it or give another name`,
      );
    }
    return target;
  }

  /** Puts the page into its place. @throws PcacheError */
  save(page: string): void {
    this.write(page, false);
  }

  private write(text: string, isTrial: boolean): void {
    const temporary = join(dirname(this.target), `.${basename(this.target)}.${randomBytes(4).toString('hex')}.tmp`);
    try {
      writeFileSync(temporary, text, { flag: 'wx' });
      if (!isTrial) renameSync(temporary, this.target);
    } catch (error) {
      throw fromSystemError(error, this.path, 'writing the report');
    } finally {
      rmSync(temporary, { force: true });
    }
  }
}

function isReport(path: string): boolean {
  const head = Buffer.alloc(HEAD_BYTES);
  const fd = openSync(path, 'r');
  try {
    const length = readSync(fd, head, 0, HEAD_BYTES, 0);
    return head.toString('utf8', 0, length).includes(GENERATOR_TAG);
  } finally {
    closeSync(fd);
  }
}
