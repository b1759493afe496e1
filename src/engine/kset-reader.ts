/** Reads the kset at one place of a running cache's log: what write-back and GC work from. */
import type { Core } from './core.js';
import { PcacheError } from './errors.js';
import { KSET_BYTES_MAX, KsetView } from './media/kset.js';

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
    core.pmem.read(core.segments.dataOffsetBytes[segment] + offsetBytes, bytes, 0, length);
    const verdict = kset.attach(bytes, 0).verdict(length, available);
    if (verdict !== 'ok' || (kset.isLast && kset.nextSegment >= core.segments.count)) {
      throw new PcacheError(
        'BAD_MEDIA',
        `${core.pmem.path}: the kset at ${segment}:${offsetBytes} was good and is not any more (${verdict}); stop using the device and run "pcache fsck"`,
      );
    }
    return kset;
  }
}
