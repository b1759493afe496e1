/** Ends an attached cache in order, or removes the block device that a dead server has left. */
import { UblkDevice } from '../block-device/ublk-device.js';
import { PcacheError } from '../engine/errors.js';
import { ControlClient, type CacheAddress } from './control.js';

/**
 * Waits until the server has ended, or the device is gone.
 * @param force remove a device whose server has died even when it is used: its users get I/O errors
 * @throws PcacheError NOT_FOUND when no cache is served there, BUSY when its block device is used
 */
export async function detach(address: CacheAddress, force: boolean): Promise<void> {
  let client: ControlClient;
  try {
    client = await ControlClient.connect(address);
  } catch (error) {
    const isUnserved = error instanceof PcacheError && error.code === 'NOT_FOUND';
    if (!isUnserved || address.device === undefined) throw error;
    if (!(await UblkDevice.removeLeft(address.device, force))) throw error;
    return;
  }
  try {
    await client.detach();
  } finally {
    client.close();
  }
}
