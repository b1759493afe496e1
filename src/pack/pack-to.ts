/** Packs a cache device into a file, or into whatever takes the pieces. */
import { openPmemReader } from '../engine/device/open.js';
import { sameDevice } from '../engine/device/lock.js';
import { PcacheError } from '../engine/errors.js';
import { packSteps, type PackOptions, type PackStep, type PackTotals } from './pack.js';
import { NewFile, writeAll } from './target.js';

const PACK_MODE = 0o666;

export interface PackJob extends PackOptions {
  readonly cachePath: string;
  readonly native: boolean;
  /** File to write; undefined to hand the pieces to `sink`. */
  readonly filePath: string | undefined;
  /** Overwrite a file that is there. */
  readonly force: boolean;
  /** Called with each piece where there is no file. @returns when the next one may come */
  readonly sink: (bytes: Uint8Array) => Promise<void>;
  readonly onProgress: (step: PackStep) => void;
  /** Called between pieces; throws to give up. */
  readonly turn: () => Promise<void>;
}

/** Between two of these many pieces signals can be heard. */
const PIECES_PER_TURN = 32;

/** @throws PcacheError; a file that was begun is gone then */
export async function packTo(job: PackJob): Promise<PackTotals> {
  const { cachePath, filePath } = job;
  if (filePath !== undefined && sameDevice(cachePath, filePath)) {
    throw new PcacheError('USAGE', `${filePath}: is the cache itself; give another name for the pack`);
  }
  const pmem = openPmemReader(cachePath, { native: job.native });
  let file: NewFile | undefined;
  try {
    if (filePath !== undefined) file = new NewFile(filePath, job.force, PACK_MODE);
    const steps = packSteps(pmem, job);
    for (let count = 1; ; count++) {
      const step = steps.next();
      if (step.done) {
        file?.finish();
        return step.value;
      }
      const { bytes } = step.value;
      job.onProgress(step.value);
      if (bytes !== undefined) {
        if (file === undefined) await job.sink(bytes);
        else writeAll(file.fd, file.path, bytes, null);
      }
      if (count % PIECES_PER_TURN === 0) await job.turn();
    }
  } finally {
    file?.close();
    pmem.close();
  }
}
