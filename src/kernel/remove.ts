/** Removes a cache from device-mapper. */
import { execFileSync } from 'node:child_process';
import { PcacheError } from '../engine/errors.js';

/** @throws PcacheError BUSY or IO, with what dmsetup says, when it cannot be removed */
export function removeKernelDevice(name: string): void {
  try {
    execFileSync('dmsetup', ['remove', name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    const { code, stderr = '' } = error as NodeJS.ErrnoException & { stderr?: string };
    if (code === 'ENOENT') {
      throw new PcacheError('NOT_FOUND', 'dmsetup: not installed, or not in PATH', { cause: error });
    }
    const said = stderr.trim().replaceAll('\n', ' ');
    const isBusy = /busy/i.test(said);
    const remedy = isBusy ? 'end its use first (unmount it, close it)' : 'see the kernel log';
    throw new PcacheError(isBusy ? 'BUSY' : 'IO', `/dev/mapper/${name}: cannot be removed: ${said}; ${remedy}`, {
      cause: error,
    });
  }
}
