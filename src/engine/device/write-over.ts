/** Stores metadata where the medium may not be readable. */
import type { Pmem } from './pmem.js';
import { couldAccess } from './tolerant-reader.js';

/**
 * A store to a place that the medium cannot read fails as a load does. Writing over the whole block instead makes it
 * readable again. All that shares a block with metadata or a kset is metadata or ksets too, which have CRCs.
 * @throws PcacheError as `Pmem.write` and `Pmem.writeOver` do
 */
export function storeOrWriteOver(
  device: Pick<Pmem, 'write' | 'writeOver'>,
  offsetBytes: number,
  bytes: Uint8Array,
): void {
  const store = (): void => device.write(offsetBytes, bytes, 0, bytes.length);
  if (device.writeOver === undefined) store();
  else if (!couldAccess(store)) device.writeOver(offsetBytes, bytes);
}
