/**
 * The timer of open ksets. A kset that has keys and is not full is closed this long after its first key, so that an
 * idle cache leaves nothing in memory. `LogWriter.nextDueMs` says when that is due and `markAgedDue` marks the ksets to
 * close; the driver of a cache sleeps no longer than that (`cache.ts`, `shards/shard.ts`).
 */
export const KSET_TIMER_MS = 1000;
