/** Reads single ksets of a running cache's log, for write-back and GC. */
import type { Core } from '../core.js';
import { PcacheError } from '../errors.js';
import { KSET_BYTES_MAX, ksetBytes, KsetView } from '../media/kset.js';
import { positionText } from '../media/position-text.js';

/** Most ksets of a busy log are short: this much is read first, and the rest only of longer ones. */
const FIRST_BYTES = ksetBytes(32);

export class KsetReader {
  readonly kset: KsetView;
  private readonly bytes = new Uint8Array(KSET_BYTES_MAX);

  constructor(private readonly core: Core) {
    this.kset = new KsetView(core.crc);
  }

  /**
   * Reads the kset at a position before key_head. There must be one: it was good when it was replayed or written, so
   * anything else means that the medium changed under us.
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
        `${core.pmem.path}: the kset at ${positionText({ segment, offsetBytes })} was good and is now damaged (${verdict}); stop using the device and run "pcache fsck"`,
      );
    }
    return kset;
  }
}
