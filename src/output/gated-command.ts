/**
 * What every command is built on that opens a cache which somebody made: before it uses what the log says, it asks
 * whether fsck would find that dirty data may be lost or old. Commands that write, or that hand the data on, refuse;
 * commands that only show the cache warn, and exit with 4. This is the one place where that is decided.
 */
import { Flags } from '@oclif/core';
import { bestCrc32c } from '../engine/device/native.js';
import type { PmemReader } from '../engine/device/pmem.js';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import type { Finding } from '../fsck/findings.js';
import { judgeCache, lossText, refuseLosses, type GateVerdict } from '../fsck/gate.js';
import { backUpMetadata } from '../fsck/repair/metadata-backup.js';
import { PcacheCommand } from './base-command.js';
import { formatBytes } from './units.js';

/** For commands that `requireSafe` may refuse. */
export const acceptLossFlag = Flags.boolean({
  description: 'go on although dirty data may be lost or old, as "pcache fsck" says',
  default: false,
});

/** For commands that change a cache and `saveMetadata` before and after. @param exclusive flags it excludes */
export function backupMetadataFlag(exclusive: string[] = []) {
  return Flags.string({
    description:
      'save the metadata in FILE before the first change and at the end, for "pcache fsck --restore-metadata"',
    helpValue: 'FILE',
    exclusive,
  });
}

export abstract class GatedCommand extends PcacheCommand {
  /**
   * Refuses a cache in which data may be lost or old, unless the user accepts that.
   * @param backingBytes size of the backing device; undefined where it is not known
   * @throws PcacheError BAD_MEDIA, and as `judgeCache` does
   */
  protected requireSafe(pmem: PmemReader, backingBytes: number | undefined, acceptLoss: boolean): void {
    const verdict = this.judge(pmem, backingBytes);
    if (!acceptLoss) refuseLosses(pmem.path, verdict);
    this.noteGate(pmem.path, verdict);
  }

  /** What the gate let pass, one line each: findings that were accepted, and those that a crash leaves too. */
  protected noteGate(path: string, { losses, doubts }: Pick<GateVerdict, 'losses' | 'doubts'>): void {
    for (const { code, where, detail } of losses) this.note(`${path}: accepted: ${code} ${where}: ${detail}`);
    for (const { code, where, detail } of doubts) this.note(`${path}: ${code} ${where}: ${detail}`);
  }

  /**
   * Warns of a cache in which data may be lost or old, and sets the exit status to 4.
   * @param isTold whether the command has said already that something is wrong: then no second line is printed
   * @returns the findings, for the JSON document
   */
  protected warnOfLosses(pmem: PmemReader, backingBytes: number | undefined, isTold: boolean): readonly Finding[] {
    const { losses } = this.judge(pmem, backingBytes);
    if (losses.length === 0) return losses;
    if (!isTold) this.note(lossText(pmem.path, losses));
    this.setExitStatus(ExitStatus.problemsLeft);
    return losses;
  }

  /** Writes the metadata of a checked cache to a file, before anything is changed. @throws as `backUpMetadata` does */
  protected saveMetadata(pmem: PmemReader, file: string): void {
    const bytes = backUpMetadata(pmem, KERNEL_GEOMETRY, file);
    this.note(`metadata saved in ${file}, ${formatBytes(bytes)}`);
  }

  /**
   * Writes the metadata again when the work is done. A failure is a line on standard error, and leaves what
   * `saveMetadata` wrote. @returns whether it was written
   */
  protected saveMetadataAgain(pmem: PmemReader, file: string): boolean {
    try {
      backUpMetadata(pmem, KERNEL_GEOMETRY, file);
      return true;
    } catch (error) {
      if (!(error instanceof PcacheError)) throw error;
      this.note(`${error.message}; the metadata backup is not up to date`);
      return false;
    }
  }

  /** @param data whether to check payload too, where the cache has data_crc */
  protected judge(pmem: PmemReader, backingBytes: number | undefined, data = false): GateVerdict {
    const progress = this.checkProgress(pmem.path);
    try {
      return judgeCache(pmem, {
        geometry: KERNEL_GEOMETRY,
        ...(backingBytes === undefined ? {} : { backingBytes }),
        crc: bestCrc32c(),
        data,
        onProgress: progress.onProgress,
      });
    } finally {
      progress.stop();
    }
  }
}
