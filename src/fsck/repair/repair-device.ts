/** Opens a cache for a repair, with its undo file, and takes one back. */
import { existsSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { openBacking } from '../../engine/device/backing-file.js';
import { sameDevice } from '../../engine/device/lock.js';
import { bestCrc32c } from '../../engine/device/native.js';
import { openPmem } from '../../engine/device/open.js';
import { PcacheError } from '../../engine/errors.js';
import { KERNEL_GEOMETRY } from '../../engine/media/geometry.js';
import { repairCache, type RepairOptions, type RepairResult } from './repair.js';
import { isUnfinishedUndo, UndoFile, undoExists, UndoWriter, type Undone } from './undo-file.js';

/** Undo files that may lie beside one another. */
const UNDO_FILES_MAX = 1000;

export interface RepairJob extends Pick<RepairOptions, 'data' | 'relinkDoubtful' | 'ask'> {
  readonly cachePath: string;
  readonly backingPath: string | undefined;
  /** Chosen where undefined. */
  readonly undoPath: string | undefined;
  readonly onChecked: NonNullable<RepairOptions['onChecked']>;
  readonly onFixed: NonNullable<RepairOptions['onFixed']>;
  readonly onProgress: NonNullable<RepairOptions['onProgress']>;
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
      const undo = new UndoWriter(chooseUndoPath(cachePath, job.undoPath));
      try {
        const { data, relinkDoubtful, ask, onChecked, onFixed, onProgress } = job;
        const result = await repairCache({
          device,
          undo,
          geometry: KERNEL_GEOMETRY,
          ...(backing === undefined ? {} : { backingBytes: backing.sizeBytes }),
          crc: bestCrc32c(),
          data,
          relinkDoubtful,
          ask,
          onChecked,
          onFixed,
          onProgress,
        });
        return { result, undoPath: undo.isUsed ? undo.path : undefined };
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

/** Beside a file; for a device, in the current folder, since the folder of a device is no place for files. */
function chooseUndoPath(cachePath: string, given: string | undefined): string {
  if (given !== undefined) {
    if (existsSync(given)) throw undoExists(given);
    return given;
  }
  const stem = `${statSync(cachePath).isFile() ? cachePath : basename(cachePath)}.undo`;
  for (let number = 1; number <= UNDO_FILES_MAX; number++) {
    const path = number === 1 ? stem : `${stem}.${number}`;
    if (!existsSync(path)) return path;
    if (isUnfinishedUndo(path)) {
      throw new PcacheError(
        'USAGE',
        `${path}: a repair was cut off; take it back first: pcache fsck --undo-apply ${path} ${cachePath}`,
      );
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
