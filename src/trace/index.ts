/** The trace readers' public face; what they do is in the files named here. */
export { findTraceFiles, isReadableOnce, STDIN_PATH, traceName } from './files.js';
export type { TraceFiles } from './files.js';
export { tableOfColumns } from './columns.js';
export { convertTrace } from './convert.js';
export type { ConvertResult } from './convert.js';
export { describeTrace } from './info.js';
export type { InfoObserver, TraceInfo } from './info.js';
export { openTrace, TraceReader } from './reader.js';
export { traceReport } from './trace-report.js';
export { scanTrace } from './scan.js';
export type { TableDefinition } from './types.js';
export type { TraceFootprint } from './scan.js';
export { spoolStream, withReadableTrace } from './spool.js';
export { makeBatch, TRACE_FORMATS, TraceFlag, TraceOp } from './types.js';
export type {
  DeviceBatch,
  MalformedRecord,
  TraceAction,
  TraceBatch,
  TraceCounts,
  TraceFormat,
  TraceOptions,
  TraceTally,
} from './types.js';
export { WRITE_FORMATS, WRITE_TRAITS } from './writers.js';
export type { WriteFormat } from './writers.js';
