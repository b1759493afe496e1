/**
 * Payload copies of a group, staged in order and then run in one native call with one fence (the seed copies
 * in `cache_copy_from_req_bio` and `cache_copy_to_req_bio`, one at a time). With data_crc the call also
 * computes each written payload's CRC, which is then set in its key: a kset may therefore be closed only
 * when nothing is staged.
 */
import { assert } from './errors.js';
import { CopyKind, type Arena, type CopyList, type Pmem } from './device/pmem.js';
import type { LogWriter } from './log-writer.js';

const CAPACITY = 1024;

export class CopyStage {
  private readonly list: CopyList;
  private readonly slotOf = new Uint16Array(CAPACITY);
  private readonly keyIndexOf = new Uint8Array(CAPACITY);
  private readonly writeKind: number;
  private count = 0;
  private arena: Arena | undefined;

  constructor(
    private readonly pmem: Pmem,
    private readonly log: LogWriter,
    private readonly dataCrc: boolean,
  ) {
    this.list = pmem.createCopyList(CAPACITY);
    this.writeKind = dataCrc ? CopyKind.writeCrc : CopyKind.write;
  }

  /** The arena that the next copies go from and to. Nothing may be staged. */
  begin(arena: Arena): void {
    assert(this.count === 0, 'copies of another group are still staged');
    this.arena = arena;
  }

  /** Stages a copy out of the cache. */
  read(pmemOffsetBytes: number, arenaOffsetBytes: number, lengthBytes: number): void {
    this.put(CopyKind.read, pmemOffsetBytes, arenaOffsetBytes, lengthBytes);
  }

  /** Stages a copy into the cache: the payload of key `keyIndex` of the slot's open kset. */
  write(pmemOffsetBytes: number, arenaOffsetBytes: number, lengthBytes: number, slot: number, keyIndex: number): void {
    const i = this.put(this.writeKind, pmemOffsetBytes, arenaOffsetBytes, lengthBytes);
    this.slotOf[i] = slot;
    this.keyIndexOf[i] = keyIndex;
  }

  private put(kind: number, pmemOffsetBytes: number, arenaOffsetBytes: number, lengthBytes: number): number {
    if (this.count === CAPACITY) this.run();
    const i = this.count;
    const { list } = this;
    list.kind[i] = kind;
    list.pmemOffsetBytes[i] = pmemOffsetBytes;
    list.arenaOffsetBytes[i] = arenaOffsetBytes;
    list.lengthBytes[i] = lengthBytes;
    this.count = i + 1;
    return i;
  }

  /** Runs what is staged. At return all of it is done and fenced. Throws what the device throws. */
  run(): void {
    const { count, list } = this;
    if (count === 0) return;
    this.count = 0;
    this.pmem.runCopies(list, count, this.arena!);
    if (!this.dataCrc) return;
    for (let i = 0; i < count; i++) {
      if (list.kind[i] === CopyKind.writeCrc) this.log.setDataCrc(this.slotOf[i], this.keyIndexOf[i], list.crc[i]);
    }
  }
}
