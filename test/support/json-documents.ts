/**
 * The documents that commands print with `--json`, as types. `npm run docs:json` makes docs/json-schema.json from them.
 */
import type { BackupJson, FsckJson, UndoJson } from '../../src/commands/fsck.js';
import type { InfoJson } from '../../src/commands/info.js';
import type { MapJson } from '../../src/commands/map.js';
import type { CheckBenchResult, CrcBenchResult } from '../../src/bench/fsck-bench.js';
import type { JobsBenchResult } from '../../src/bench/jobs-bench.js';
import type { RecoveryBenchResult } from '../../src/bench/recovery-bench.js';
import type { RequestBenchResult } from '../../src/bench/requests.js';
import type { ScaleResult } from '../../src/bench/scale.js';
import type { ModelledWritebackResult } from '../../src/bench/modelled-writeback.js';
import type { WritebackBenchResult } from '../../src/bench/writeback-bench.js';
import type { CurveResult } from '../../src/curve/result.js';
import type { PcacheErrorCode } from '../../src/engine/errors.js';
import type { CloseReport } from '../../src/engine/index.js';
import type { KernelAttach } from '../../src/kernel/kernel-attach.js';
import type { KernelStatus } from '../../src/kernel/kernel-status.js';
import type { BackgroundAttach } from '../../src/commands/attach.js';
import type { AttachResult } from '../../src/nbd/attach.js';
import type { Tuned } from '../../src/nbd/control.js';
import type { ConvertJson } from '../../src/output/convert-report.js';
import type { FormatJson } from '../../src/output/format-summary.js';
import type { PackJson, UnpackJson } from '../../src/output/pack-report.js';
import type { StatusJson } from '../../src/output/status-report.js';
import type { GrowJson } from '../../src/output/grow-report.js';
import type { MoveJson } from '../../src/output/move-report.js';
import type { TabJson } from '../../src/output/tab-report.js';
import type { WipeJson } from '../../src/output/wipe-report.js';
import type { WritebackJson } from '../../src/output/writeback-report.js';
import type { ReplayDiff } from '../../src/replay/diff.js';
import type { ReplayResult } from '../../src/replay/replay-result.js';
import type { TraceInfo } from '../../src/trace/info.js';

/** Every document names the version of this vocabulary; a change that a reader could stumble over raises it. */
type Document<Result> = { readonly schemaVersion: 1 } & Result;

export interface Documents {
  'error': Document<{ readonly error: { readonly code: PcacheErrorCode | 'BUG'; readonly message: string } }>;
  'attach': Document<AttachResult>;
  'attach --background': Document<BackgroundAttach>;
  'attach --kernel': Document<KernelAttach & { readonly ran: boolean }>;
  'bench': Document<RequestBenchResult>;
  'bench crc': Document<CrcBenchResult>;
  'bench fsck': Document<CheckBenchResult>;
  'bench jobs': Document<JobsBenchResult>;
  'bench recovery': Document<RecoveryBenchResult>;
  'bench scale': Document<ScaleResult>;
  'bench writeback': Document<WritebackBenchResult>;
  'bench writeback --model': Document<ModelledWritebackResult>;
  'detach': Document<{ readonly detached: boolean }>;
  'drain': Document<CloseReport>;
  'format': Document<FormatJson>;
  'fsck': Document<FsckJson>;
  'fsck --backup-metadata': Document<BackupJson>;
  'fsck --undo-apply': Document<UndoJson>;
  'grow': Document<GrowJson>;
  'info': Document<InfoJson>;
  'map': Document<MapJson>;
  'move': Document<MoveJson>;
  'pack': Document<PackJson>;
  'replay': Document<ReplayResult>;
  'replay --curve': Document<CurveResult>;
  'replay --diff': Document<ReplayDiff>;
  'status': Document<StatusJson>;
  'status NAME': Document<KernelStatus>;
  'tab check': Document<TabJson>;
  'trace convert': Document<ConvertJson>;
  'trace info': Document<TraceInfo>;
  'tune': Document<Tuned>;
  'unpack': Document<UnpackJson>;
  'wipe': Document<WipeJson>;
  'writeback': Document<WritebackJson>;
}
