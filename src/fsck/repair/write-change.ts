/** Makes one change of a repair, on a medium that may not be readable where it goes. */
import { couldAccess } from '../../engine/device/tolerant-reader.js';
import type { Change, RepairDevice } from './types.js';

/**
 * A store to a place that the medium cannot read fails as a load does. Writing over the whole block instead makes it
 * readable again. All that shares a block with metadata or a kset is metadata or ksets too, which have CRCs.
 * @throws PcacheError as `Pmem.write` and `Pmem.writeOver` do
 */
export function writeChange(device: RepairDevice, { offsetBytes, bytes }: Change): void {
  const store = (): void => device.write(offsetBytes, bytes, 0, bytes.length);
  if (device.writeOver === undefined) store();
  else if (!couldAccess(store)) device.writeOver(offsetBytes, bytes);
}
