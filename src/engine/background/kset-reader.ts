/** Reads the kset at one place of a running cache's log: what write-back and GC work from. */
import type { Core } from '../core.js';
import { PcacheError } from '../errors.js';
import { KSET_BYTES_MAX, ksetBytes, KsetView } from '../media/kset.js';

/** Most ksets of a busy log are short: so much is read at first, and the rest where there is more. */
const FIRST_BYTES = ksetBytes(32);

export class KsetReader {
  readonly kset: KsetView;
  private readonly bytes = new Uint8Array(KSET_BYTES_MAX);

  constructor(private readonly core: Core) {
    this.kset = new KsetView(core.crc);
  }

  /**
   * Reads the kset at a place before key_head, where there must be one: it was good when it was replayed or
   * written, so anything else is a medium that changed under us.
   * @throws PcacheError BAD_MEDIA
   */
  readAt(segment: number, offsetBytes: number): KsetView {
    const { core, kset, bytes } = this;
    const available = core.geometry.segmentDataBytes - offsetBytes;
    const length = Math.min(bytes.length, available);
    const at = core.segments.dataOffsetBytes[segment] + offsetBytes;
    const first = Math.min(FIRST_BYTES, length);
    core.pmem.read(at, bytes, 0, first);
    const rest = Math.min(kset.attach(bytes, 0).lengthBytes, length) - first;
    if (rest > 0) core.pmem.read(at + first, bytes, first, rest);
    const verdict = kset.verdict(length, available);
    if (verdict !== 'ok' || (kset.isLast && kset.nextSegment >= core.segments.count)) {
      throw new PcacheError(
        'BAD_MEDIA',
        `${core.pmem.path}: the kset at ${segment}:${offsetBytes} was good and is not any more (${verdict}); stop using the device and run "pcache fsck"`,
      );
    }
    return kset;
  }
}
