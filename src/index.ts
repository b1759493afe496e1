/**
 * pcache as a library: open a cache, read a logical device, make and check caches, replay traces. What this module does
 * not export is internal. Sizes and offsets are bytes, times are nanoseconds unless a name says otherwise.
 *
 * @module pcache
 */
export { openCache, OpenCache } from './library/open-cache.js';
export type {
  CacheRequest,
  FlushRequest,
  OpenCacheOptions,
  ReadRequest,
  RequestOutcome,
  WriteRequest,
} from './library/open-cache.js';
export { LogicalDevice, openLogicalDevice } from './library/logical-device.js';
export type { LogicalDeviceOptions } from './library/logical-device.js';
export { formatCache } from './library/format-cache.js';
export type { FormatCacheOptions, FormattedCache } from './library/format-cache.js';
export { checkCache } from './library/check-cache.js';
export type { CheckCacheOptions } from './library/check-cache.js';
export { openTrace, replayTrace, simulateTrace } from './library/traces.js';
export type { ReplayTraceOptions, SimulateTraceOptions, TraceSelection } from './library/traces.js';

export { PcacheError } from './engine/errors.js';
export type { PcacheErrorCode } from './engine/errors.js';
export type { CloseReport } from './engine/driver.js';
export { CACHE_MODES } from './engine/media/codecs.js';
export type { CacheMode, Position } from './engine/media/codecs.js';
export type { Durability } from './engine/device/pmem.js';
export type { EngineStats } from './engine/stats.js';
export type { CacheStatus } from './engine/status.js';
export type { FindingCode, Severity } from './fsck/catalogue.js';
export type { CheckResult } from './fsck/check.js';
export type { Examined } from './fsck/examined.js';
export type { Finding } from './fsck/findings.js';
export { TRACE_FORMATS, TraceFlag, TraceOp } from './trace/types.js';
export type {
  DeviceBatch,
  MalformedRecord,
  TraceAction,
  TraceBatch,
  TraceCounts,
  TraceFormat,
  TraceTally,
} from './trace/types.js';
export type { TraceReader } from './trace/reader.js';
export type { LatencyHistogram, LatencySummary } from './replay/latency.js';
export type { LatencyColumns, LatencyKind, LatencyTimeline } from './replay/latency-history.js';
export { replayReport } from './replay/replay-report.js';
export type { Quantity, ReportRow, ReportSection } from './report-model/report-section.js';
export type { LatencyModelResult, ReplayResult } from './replay/replay-result.js';
export type { TimelineSample } from './replay/timeline.js';
export type { ReplayTimeline } from './replay/timeline-recorder.js';
export type { VerifyResult } from './replay/verifier.js';
export type { CurveResult } from './curve/result.js';
export type { BackingPreset } from './simulate/latency-model.js';
export { reportPage, type ReportOrigin } from './report-html/page.js';
