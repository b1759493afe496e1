/** Removes a device of the kernel's target, once nobody uses it and nothing in its cache is dirty. */
import { claimDevice, deviceUse, type Claim } from '../block-device/device-users.js';
import { ExitStatus, fromSystemError, PcacheError } from '../engine/errors.js';
import { isSamePosition } from '../engine/media/codecs.js';
import { dmsetup, openCountOf } from './device-mapper.js';
import { drainKernelDevice, flushDevice, type DrainOptions } from './kernel-drain.js';
import type { KernelStatusReporter } from './kernel-status.js';

/**
 * @param drain writes back first what is dirty; left out, a dirty cache is refused
 * @throws PcacheError BUSY with the user of the device, DIRTY (status 4), and whatever `drainKernelDevice` throws
 */
export async function detachKernelDevice(
  reporter: KernelStatusReporter,
  drain: DrainOptions | undefined,
): Promise<void> {
  const { device, log } = reporter;
  const claim = await claimUnused(reporter);
  try {
    if (drain !== undefined) await drainKernelDevice(reporter, drain);
    else await flushDevice(device);
    const { dirtyBytes, keyHead, dirtyTail } = await reporter.status();
    if (!isSamePosition(keyHead, dirtyTail)) throw dirtyError(device.name, dirtyBytes);
  } finally {
    await claim.release();
  }
  await dmsetup(device.name, 'remove', '--retry', device.name);
  // Somebody may have written between the last look and the removal.
  const { dirtyKeys, dirtyBytes } = log.afterDetach();
  if (dirtyKeys === 0) return;
  throw new PcacheError(
    'DIRTY',
    `${device.name}: was written to while it was detached: ${dirtyBytes} bytes are dirty in ${device.cachePath}; attach it again, or run "pcache writeback ${device.cachePath} ${device.backingPath}"`,
    { exitStatus: ExitStatus.problemsLeft },
  );
}

function dirtyError(name: string, dirtyBytes: number): PcacheError {
  const remedy = `run "pcache drain ${name}" first, or give --drain`;
  const message = `${name}: ${dirtyBytes} bytes are dirty; ${remedy} ("dmsetup remove ${name}" leaves them in the cache)`;
  return new PcacheError('DIRTY', message, { exitStatus: ExitStatus.problemsLeft });
}

/** @throws PcacheError BUSY with the user of the device */
async function claimUnused({ device: { name, path, kernelName } }: KernelStatusReporter): Promise<Claim> {
  const opened = await openCountOf(name);
  let claim: Claim | string;
  try {
    claim = opened > 0 ? (deviceUse(path, kernelName) ?? 'in use by the kernel') : await claimDevice(path, kernelName);
  } catch (error) {
    throw fromSystemError(error, path, 'claiming it');
  }
  if (typeof claim !== 'string') return claim;
  throw new PcacheError('BUSY', `${path}: ${claim}; end that use first (unmount it, close it)`);
}
