/** The public engine API: open, read, write, flush, status, step, close. */
export { Cache, type WritePressure } from './cache.js';
export { KSET_TIMER_MS } from './log/kset-timer.js';
export { CacheDriver, type CloseReport, type Driven } from './driver.js';
export { CacheIo } from './cache-io.js';
export type { Clock } from './clock.js';
export type { CacheOptions } from './core.js';
export { Op, RequestFlag, RequestGroup, RequestState } from './request/request-group.js';
export { openShard } from './shards/open-shard.js';
export type { Shard, ShardOptions, ShardSeed } from './shards/shard.js';
export { JOBS_MAX, ShardedCache, type ShardedOptions } from './shards/sharded-cache.js';
export type { ShardStatus } from './shards/messages.js';
export { SegmentSurvey, SegmentUse } from './segment-survey.js';
export { EngineStats } from './stats.js';
export { formatStatusLine, type CacheStatus, type DirtyInLog, type StatusFields } from './status.js';
export {
  badMedia,
  loadCache,
  loadCacheOrThrow,
  readMetadataOf,
  type LoadedCache,
  type LoadOptions,
  type LoadResult,
} from './log/recovery.js';
export { assert, AssertionError, ExitStatus, fromSystemError, PcacheError, type PcacheErrorCode } from './errors.js';
