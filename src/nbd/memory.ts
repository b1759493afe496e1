/**
 * The memory of a connection: receive windows and reply ring, in one piece that the engine copies from and to. Made when
 * a client has been let in, kept for the next one when it leaves.
 */
import type { Arena } from '../engine/device/pmem.js';
import { WINDOWS_BYTES } from './receive-windows.js';
import { REPLY_RING_BYTES } from './reply-ring.js';
import type { Store } from './store.js';

const KEPT = 4;

export const RING_OFFSET_BYTES = WINDOWS_BYTES;
const ARENA_BYTES = RING_OFFSET_BYTES + REPLY_RING_BYTES;

export class ArenaPool {
  private readonly kept: Arena[] = [];

  constructor(private readonly store: Store) {}

  take(): Arena {
    return this.kept.pop() ?? this.store.makeArena(ARENA_BYTES);
  }

  give(arena: Arena): void {
    if (this.kept.length < KEPT) this.kept.push(arena);
    else this.store.dropArena(arena);
  }
}
