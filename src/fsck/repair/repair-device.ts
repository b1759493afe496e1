/** Opens a cache for a repair, with its undo file, and takes one back. */
import { statSync, unlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { openBacking } from '../../engine/device/backing-file.js';
import { sameDevice } from '../../engine/device/lock.js';
import { bestCrc32c } from '../../engine/device/native.js';
import { openPmem } from '../../engine/device/open.js';
import { PcacheError } from '../../engine/errors.js';
import { KERNEL_GEOMETRY } from '../../engine/media/geometry.js';
import type { LossSummary } from './losses.js';
import { readMetadataBackup, restoreMetadata, type Restored } from './metadata-backup.js';
import { repairCache, type RepairOptions, type RepairResult } from './repair.js';
import type { Loss } from './types.js';
import { UndoFile, undoExists, undoStateOf, UndoWriter, type Undone } from './undo-file.js';

const BOTH_BACK = 'To undo both, apply the new undo file first';
/** Undo files that may lie beside one another. */
const UNDO_FILES_MAX = 1000;

export interface RepairJob extends Pick<RepairOptions, 'data' | 'relinkDoubtful' | 'dataCrc' | 'ask'> {
  readonly cachePath: string;
  readonly backingPath: string | undefined;
  /** Chosen where undefined. */
  readonly undoPath: string | undefined;
  /** Told of undo files of earlier repairs. */
  readonly onNote: (note: string) => void;
  readonly onChecked: NonNullable<RepairOptions['onChecked']>;
  readonly onFixed: NonNullable<RepairOptions['onFixed']>;
  readonly onProgress: RepairOptions['onProgress'];
}

export interface RepairOutcome {
  readonly result: RepairResult;
  /** Undefined when nothing was changed. */
  readonly undoPath: string | undefined;
}

/** @throws PcacheError BUSY, NATIVE_MISSING, USAGE where the undo file is in the way, and as `repairCache` does */
export async function repairDevice(job: RepairJob): Promise<RepairOutcome> {
  const { cachePath, backingPath } = job;
  if (backingPath !== undefined && sameDevice(cachePath, backingPath)) {
    throw new PcacheError('USAGE', `${backingPath}: is the cache device itself; give the backing device`);
  }
  const device = openPmem(cachePath);
  try {
    const backing = backingPath === undefined ? undefined : openBacking(backingPath, { readOnly: true });
    try {
      const chosen = chooseUndoPath(cachePath, job.undoPath);
      for (const note of chosen.notes) job.onNote(note);
      const undo = new UndoWriter(chosen.path);
      try {
        const { data, relinkDoubtful, dataCrc, ask, onChecked, onFixed, onProgress } = job;
        const result = await repairCache({
          device,
          undo,
          geometry: KERNEL_GEOMETRY,
          ...(backing === undefined ? {} : { backingBytes: backing.sizeBytes }),
          crc: bestCrc32c(),
          data,
          relinkDoubtful,
          dataCrc,
          ask,
          onChecked,
          onFixed,
          onProgress,
        });
        const losses = withLossesOf(chosen.losing, result.losses);
        return { result: { ...result, losses }, undoPath: undo.isUsed ? undo.path : undefined };
      } catch (error) {
        throw undo.isUsed ? withUndo(error, undo.path, cachePath) : error;
      } finally {
        undo.close();
      }
    } finally {
      backing?.close();
    }
  } finally {
    device.close();
  }
}

/** The losses of a repair, and that there may be more where an earlier one was cut off before it listed its own. */
function withLossesOf(undoPaths: readonly string[], losses: LossSummary): LossSummary {
  if (undoPaths.length === 0) return losses;
  const unlisted = undoPaths.map((path): Loss => {
    const reason = 'this repair was cut off before it listed what it lost; undo it and repair again for the list';
    return { kind: 'perhaps-lost', where: path, reason, ranges: [], mayBeMore: true };
  });
  return { ...losses, possible: [...losses.possible, ...unlisted], complete: false };
}

/** The error that ended a repair after its first change, with the way back. */
function withUndo(error: unknown, undoPath: string, cachePath: string): unknown {
  if (!(error instanceof PcacheError)) return error;
  const { code, message, exitStatus } = error;
  const wayBack = `the repair is not complete; to undo it: pcache fsck --undo-apply ${undoPath} ${cachePath}`;
  return new PcacheError(code, `${message}; ${wayBack}`, { cause: error, exitStatus });
}

export interface ChosenUndo {
  readonly path: string;
  /** For people: what was met where an undo file was to go. */
  readonly notes: readonly string[];
  /** Undo files of repairs that were cut off and may have lost what no report lists. */
  readonly losing: readonly string[];
}

/**
 * Where to keep what is changed: beside a file; for a device, in the current folder, since the folder of a device is no
 * place for files. An undo file that is there is kept, and the new one gets the next free number; one whose repair was
 * cut off before it changed anything is replaced.
 * @throws PcacheError USAGE when the given path is taken by something else
 */
export function chooseUndoPath(cachePath: string, given: string | undefined): ChosenUndo {
  const stem = given ?? `${statSync(cachePath).isFile() ? cachePath : basename(cachePath)}.undo`;
  const notes: string[] = [];
  const losing: string[] = [];
  for (let number = 1; number <= UNDO_FILES_MAX; number++) {
    const path = number === 1 ? stem : `${stem}.${number}`;
    switch (undoStateOf(path)) {
      case 'none':
        return { path, notes, losing };
      case 'incomplete':
        unlinkSync(path);
        notes.push(`${path}: replaced; its repair was cut off before it changed anything`);
        return { path, notes, losing };
      case 'unfinished-losing':
        losing.push(path);
        notes.push(`${path}: kept; its repair was cut off, and may have lost data. ${BOTH_BACK}`);
        break;
      case 'unfinished':
        notes.push(`${path}: kept; its repair was cut off. ${BOTH_BACK}`);
        break;
      case 'finished':
        break;
      case 'other':
        if (number === 1 && given !== undefined) throw undoExists(given);
    }
  }
  throw undoExists(stem);
}

/** Takes back the repair that `undoPath` is of. @throws PcacheError as `UndoFile` does */
export function undoRepair(undoPath: string, cachePath: string): Undone {
  const undo = UndoFile.read(undoPath);
  const device = openPmem(cachePath);
  try {
    return undo.apply(device);
  } finally {
    device.close();
  }
}

/** Writes the metadata that `backupPath` holds again where they are lost. @throws PcacheError as `restoreMetadata` does */
export function restoreDevice(
  cachePath: string,
  backupPath: string,
  undoPath: string | undefined,
): { restored: Restored; undoPath: string | undefined } {
  const backup = readMetadataBackup(backupPath, KERNEL_GEOMETRY);
  const device = openPmem(cachePath);
  try {
    const undo = new UndoWriter(chooseUndoPath(cachePath, undoPath).path);
    try {
      const restored = restoreMetadata(device, undo, backup, KERNEL_GEOMETRY);
      return { restored, undoPath: undo.isUsed ? undo.path : undefined };
    } finally {
      undo.close();
    }
  } finally {
    device.close();
  }
}
