/**
 * Keeps the engine's fdatasync calls short where the cache is a plain file: payload is made durable on another thread
 * before the engine, which is synchronous, has to do it on the main thread.
 *
 * It changes no order: a request that needs durability (FLUSH, FUA) is held until a sync that began after it has
 * ended, and then goes to the engine, which still makes everything durable itself, in its own order. By then only what
 * other requests have stored meanwhile is left to be written.
 */
import { Op, RequestFlag, type RequestGroup } from '../engine/index.js';
import { reportEnded } from '../engine/request/request-group.js';

/** Payload stored since the last sync began after which another one begins, bytes. */
const SYNC_BYTES = 4 * 1024 * 1024;

export interface EarlySyncContext {
  /** Starts making everything durable that has been stored, and calls back when that has ended, with or without success. */
  readonly beginSync: (done: () => void) => void;
  /** Gives a group to the engine; as `Cache.submit`. */
  readonly submit: (group: RequestGroup) => number;
}

export class EarlySync {
  private storedBytes = 0;
  private isSyncing = false;
  /** Groups for which the sync under way began, and those that need the next one. */
  private syncing: RequestGroup[] = [];
  private waiting: RequestGroup[] = [];

  constructor(private readonly context: EarlySyncContext) {}

  /** As `Cache.submit`. */
  submit(group: RequestGroup): number {
    const isHeld = needsDurability(group);
    if (isHeld) {
      group.pending = group.count;
      this.waiting.push(group);
    }
    const left = isHeld ? group.count : this.context.submit(group);
    if (!isHeld) this.storedBytes += writtenBytes(group);
    this.begin();
    return left;
  }

  private begin(): void {
    if (this.isSyncing || (this.waiting.length === 0 && this.storedBytes < SYNC_BYTES)) return;
    this.isSyncing = true;
    this.storedBytes = 0;
    this.syncing = this.waiting;
    this.waiting = [];
    this.context.beginSync(() => {
      const { syncing } = this;
      this.isSyncing = false;
      this.syncing = [];
      for (const group of syncing) this.release(group);
      this.begin();
    });
  }

  /** Gives a held group to the engine, and reports the requests that end at once. */
  private release(group: RequestGroup): void {
    const left = this.context.submit(group);
    this.storedBytes += writtenBytes(group);
    reportEnded(group, left);
  }
}

function needsDurability({ op, flags, count }: RequestGroup): boolean {
  for (let i = 0; i < count; i++) {
    if (op[i] === Op.flush || (op[i] !== Op.read && (flags[i] & RequestFlag.fua) !== 0)) return true;
  }
  return false;
}

function writtenBytes({ op, lengthBytes, count }: RequestGroup): number {
  let bytes = 0;
  for (let i = 0; i < count; i++) if (op[i] === Op.write || op[i] === Op.zero) bytes += lengthBytes[i];
  return bytes;
}
