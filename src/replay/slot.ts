/**
 * A request of a replay that is under way: a group of one with memory of its own. Slots are made once and
 * used again; their memory grows to the largest request they meet.
 */
import type { Arena, Pmem } from '../engine/device/pmem.js';
import { SECTOR_SHIFT } from '../engine/media/geometry.js';
import { RequestGroup } from '../engine/index.js';

const FIRST_BYTES = 64 * 1024;
/** A slot lets go of more memory than this when its next request does not need it. */
const KEPT_BYTES = 1024 * 1024;

export class Slot {
  group: RequestGroup;
  op = 0;
  flags = 0;
  offsetBytes = 0;
  lengthBytes = 0;
  submittedMs = 0;
  /** The payload as 32-bit words. */
  words: Uint32Array;
  /** Of `--verify`: a version for each sector of the request. */
  versions: Uint32Array;
  private arena: Arena;

  constructor(
    private readonly pmem: Pmem,
    private readonly onDone: (slot: Slot) => void,
  ) {
    ({ arena: this.arena, words: this.words, versions: this.versions, group: this.group } = this.make(FIRST_BYTES));
  }

  private make(bytes: number) {
    const memory = new Uint8Array(bytes);
    const arena = this.pmem.registerArena(memory);
    const group = new RequestGroup(1, arena);
    group.onRequestDone = () => this.onDone(this);
    return { arena, group, words: new Uint32Array(memory.buffer), versions: new Uint32Array(bytes >>> SECTOR_SHIFT) };
  }

  /** Makes the slot hold a request; its payload is whatever the memory holds. */
  set(op: number, flags: number, offsetBytes: number, lengthBytes: number): void {
    const has = this.arena.memory.length;
    if (lengthBytes > has || (has > KEPT_BYTES && lengthBytes <= KEPT_BYTES)) {
      this.pmem.unregisterArena(this.arena);
      const bytes = Math.max(FIRST_BYTES, 2 ** Math.ceil(Math.log2(lengthBytes || 1)));
      ({ arena: this.arena, words: this.words, versions: this.versions, group: this.group } = this.make(bytes));
    }
    this.op = op;
    this.flags = flags;
    this.offsetBytes = offsetBytes;
    this.lengthBytes = lengthBytes;
    this.group.clear();
    this.group.add(op, offsetBytes, lengthBytes, 0, flags);
  }

  release(): void {
    this.pmem.unregisterArena(this.arena);
  }
}
