/** `pcache replay`: runs a block trace through the cache. */
import { Args, Flags } from '@oclif/core';
import { curve } from '../curve/curve.js';
import type { CurveResult } from '../curve/result.js';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { GC_PERCENT_MAX } from '../engine/media/codecs.js';
import { PcacheCommand } from '../output/base-command.js';
import { renderCurve } from '../output/curve-report.js';
import { cacheSizesFlag, lruFlag, modeFlag, policiesFlag, sizeFlag, speedFlag } from '../output/flags.js';
import { columnsChoice, traceFlags } from '../output/trace-flags.js';
import { modelChoice, modelFlags } from '../output/model-flags.js';
import { renderDiff } from '../output/diff-report.js';
import { prose } from '../output/prose.js';
import { renderReport } from '../output/report.js';
import { diffResults, type ReplayDiff } from '../replay/diff.js';
import { replay, type ReplayObserver, type ReplayOptions, type TraceChoice } from '../replay/replay.js';
import { replayReport } from '../replay/replay-report.js';
import { loadResults } from '../replay/saved-result.js';
import { comparisonPage } from '../report-html/comparison.js';
import { reportPage, type ReportOrigin } from '../report-html/page.js';
import { ReportFile } from '../report-html/report-file.js';
import type { ReplayResult } from '../replay/replay-result.js';
import { BACKING_PRESET_NAMES, modelOf, runSimulation, type BackingPreset } from '../simulate/index.js';
import { tableOfColumns, TRACE_FORMATS } from '../trace/index.js';

const PHASES = {
  scan: { label: 'reading the trace', unit: 'count', noun: 'requests' },
  replay: { label: 'replaying', unit: 'count', noun: 'requests' },
  drain: { label: 'writing back', unit: 'count', noun: 'keys' },
  compare: { label: 'comparing', unit: 'bytes' },
} as const;

/** Flags for real devices, or for a single size. */
const NOT_WITH_SIZES = ['cache', 'backing', 'cache-size', 'backing-size', 'verify', 'verify-reads', 'force'];

/** Flags of a replay, which --diff does not run. */
const NOT_WITH_DIFF = [
  ...NOT_WITH_SIZES,
  ...['data-crc', 'mode', 'gc-percent', 'speed', 'loop', 'lockstep', 'simulate', 'sizes', 'curve', 'lru', 'policy'],
  ...['format', 'action', 'device', 'max-malformed', 'limit', 'model'],
];

export default class Replay extends PcacheCommand {
  static override task = 'size' as const;
  static override summary = 'Replay a block trace through a cache and report the outcome.';
  static override description = prose`TRACE is a blktrace recording by its base name (pgbench.blktrace for pgbench.blktrace.0, .1 and so on), one file of it,
or any other format described in docs/traces.md: blkparse text, fio iologs, vscsi, and CSV in the format of MSR
Cambridge, Alibaba, Tencent or pcache itself; each may be compressed with gzip or zstd. "pcache trace info" describes a
trace.

Without --cache and --backing both devices are temporary: sized from the trace and removed afterwards. With them, those
devices are used: the cache must be formatted, and the backing device is overwritten.

Discards are counted and skipped, because dm-pcache has no discard.`;

  // The usage line that oclif generates lists every flag, which is unreadable here.
  static override usage = ['<%= command.id %> TRACE [FLAGS]', '<%= command.id %> A.json B.json... --diff'];

  static override examples = [
    {
      description: 'Replay a workload against a cache of 1 GiB.',
      command: '<%= config.bin %> <%= command.id %> pgbench.blktrace --cache-size 1GiB',
    },
    {
      description: 'Verify every byte read, and the backing device at the end.',
      command: '<%= config.bin %> <%= command.id %> pgbench.blktrace --verify',
    },
    {
      description: 'Run the same replay faster, without moving payload.',
      command: '<%= config.bin %> <%= command.id %> pgbench.blktrace --cache-size 1GiB --simulate',
    },
    {
      description: 'Estimate latencies with a hard disk as backing device, with and without the cache.',
      command: '<%= config.bin %> <%= command.id %> pgbench.blktrace --simulate --model hdd',
    },
    {
      description: 'Compare cache sizes with each other and with an ideal LRU cache.',
      command: '<%= config.bin %> <%= command.id %> pgbench.blktrace --sizes 512MiB,1GiB,4GiB',
    },
    {
      description: 'Compare all useful sizes, and other policies than LRU as well.',
      command: '<%= config.bin %> <%= command.id %> pgbench.blktrace --curve --policy fifo,s3-fifo,sieve',
    },
    {
      description: 'Compare results, on the terminal and as a page of charts.',
      command: '<%= config.bin %> <%= command.id %> small.json large.json --diff --report both.html',
    },
    {
      description: 'Replay requests while blktrace records them.',
      command: 'blktrace -d /dev/vdb -w 30 -o - | <%= config.bin %> <%= command.id %> - --json',
    },
  ];

  static override args = {
    trace: Args.string({
      name: 'TRACE',
      required: true,
      description: 'trace to replay, or - for standard input',
    }),
    other: Args.string({
      name: 'OTHER',
      multiple: true,
      description: 'with --diff: results to compare with the first, up to seven',
    }),
  };

  static override flags = {
    'cache': Flags.string({
      description: 'formatted cache device to use (default: a temporary cache)',
      helpValue: 'CACHE',
    }),
    'backing': Flags.string({
      description: 'backing device to use with --cache; it is overwritten',
      helpValue: 'BACKING',
    }),
    'cache-size': sizeFlag({
      description: 'size of the temporary cache (default: an eighth of the backing device, 512MiB to 4GiB)',
    }),
    'data-crc': Flags.boolean({
      description: 'create the temporary cache with data_crc',
    }),
    'mode': modeFlag({ description: 'mode of the temporary cache (default: writeback)' }),
    'gc-percent': Flags.integer({
      description: 'percentage of segments in use at which garbage collection starts; stored in the cache',
      min: 0,
      max: GC_PERCENT_MAX,
      helpValue: 'N',
    }),
    'speed': speedFlag({
      description: 'replay speed: max, realtime, or a multiple of the recorded speed such as 4x',
      default: Infinity,
      defaultHelp: () => Promise.resolve('max'),
    }),
    'loop': Flags.integer({
      description: 'replay the trace N times in a row',
      min: 1,
      default: 1,
      helpValue: 'N',
    }),
    'lockstep': Flags.boolean({
      description: 'deterministic replay: virtual time, background work always caught up',
      default: false,
    }),
    'simulate': Flags.boolean({
      description: 'run the engine without devices and payload, in lockstep',
      exclusive: ['cache', 'backing', 'verify', 'verify-reads', 'force'],
    }),
    'backing-size': sizeFlag({
      description: 'size of the simulated backing device; lets a trace be replayed as it arrives, without a first pass',
      dependsOn: ['simulate'],
    }),
    'sizes': cacheSizesFlag({
      description: 'simulate caches of these sizes in one run, with the LRU curve of the trace',
      exclusive: ['curve', ...NOT_WITH_SIZES],
    }),
    'curve': Flags.boolean({
      description: 'like --sizes, with sizes that double from 512MiB until one holds the whole trace, plus one',
      default: false,
      exclusive: NOT_WITH_SIZES,
    }),
    'lru': lruFlag({
      description: 'how to compute the LRU curve (auto: exact unless the trace touches more than 64 GiB)',
      relationships: [{ type: 'some', flags: ['sizes', 'curve'] }],
    }),
    'policy': policiesFlag({
      description: 'also simulate caches of 4 KiB blocks by these policies: fifo, s3-fifo, sieve',
      relationships: [{ type: 'some', flags: ['sizes', 'curve'] }],
    }),
    ...traceFlags(TRACE_FORMATS),
    'limit': Flags.integer({ description: 'stop after N requests', min: 1, helpValue: 'N' }),
    'verify': Flags.boolean({
      description: 'stamp every sector, check every read, write everything back and compare the backing device',
      default: false,
    }),
    'verify-reads': Flags.boolean({
      description: 'check cached data against its CRC on every read (caches with data_crc only)',
      default: false,
    }),
    'report': Flags.string({
      description: 'write an HTML report to FILE (only an existing report is overwritten)',
      helpValue: 'FILE.html',
    }),
    ...modelFlags(BACKING_PRESET_NAMES),
    'force': Flags.boolean({
      char: 'f',
      description: 'overwrite a backing device that holds a filesystem or other recognised data',
    }),
    'diff': Flags.boolean({
      description: 'compare results saved with --json',
      default: false,
      exclusive: NOT_WITH_DIFF,
    }),
  };

  async run(): Promise<ReplayResult | CurveResult | ReplayDiff> {
    const { args, flags } = await this.parse(Replay);
    const others = args.other ?? [];
    if (others.length > 0 && !flags.diff)
      throw new PcacheError('USAGE', `unexpected argument ${others[0]}; a second argument needs --diff`);
    const report = flags.report === undefined ? undefined : new ReportFile(flags.report);
    if (flags.diff) return this.compare([args.trace, ...others], report);
    const table = columnsChoice(flags);
    const choice: TraceChoice = {
      trace: args.trace,
      action: flags.action as TraceChoice['action'],
      traceDevice: flags.device,
      format: flags.format as TraceChoice['format'],
      ...(table === undefined ? {} : { table: tableOfColumns(table) }),
      malformedLimit: flags['max-malformed'],
      loops: flags.loop,
      limit: flags.limit ?? Infinity,
      stdin: this.input,
      onPipe: this.onPipe,
    };
    const cache = {
      cacheBytes: flags['cache-size'],
      dataCrc: flags['data-crc'] ?? false,
      gcPercent: flags['gc-percent'],
      mode: flags.mode,
    };
    const { model: preset, speed } = flags;
    const model = preset === undefined ? undefined : modelOf(modelChoice(preset as BackingPreset, flags));
    if (flags.curve || flags.sizes) {
      const { sizes: sizesBytes, lru = 'auto', policy: policies = [] } = flags;
      const sizes = { ...choice, ...cache, sizesBytes, lru, policies, model, speed };
      const result = await this.work((observer) => curve(sizes, observer));
      this.print(renderCurve(result, (title) => this.style.bold(title), this.columns));
      this.saveReport(report, (origin) => reportPage(result, origin));
      return result;
    }
    const result = await this.work((observer) => {
      if (flags.simulate) {
        return runSimulation({ ...choice, ...cache, backingBytes: flags['backing-size'], model, speed }, observer);
      }
      const options: ReplayOptions = {
        ...choice,
        ...cache,
        cachePath: flags.cache,
        backingPath: flags.backing,
        verifyReads: flags['verify-reads'],
        speed: flags.speed,
        lockstep: flags.lockstep,
        verify: flags.verify,
        force: flags.force ?? false,
      };
      return replay(options, observer);
    });
    this.print(renderReport(replayReport(result), (title) => this.style.bold(title)));
    this.saveReport(report, (origin) => reportPage(result, origin));
    if (result.verify && result.verify.mismatchCount > 0) {
      this.note(
        `${args.trace}: ${result.verify.mismatchCount} ${result.verify.mismatchCount === 1 ? 'mismatch' : 'mismatches'} found`,
      );
      this.setExitStatus(ExitStatus.problemsLeft);
    }
    return result;
  }

  private saveReport(file: ReportFile | undefined, page: (origin: ReportOrigin) => string): void {
    if (!file) return;
    file.save(page({ version: this.config.version, commandLine: this.commandLine, madeAt: new Date() }));
    this.print(`\nReport written to ${file.path}.\n`);
  }

  private compare(paths: readonly string[], report: ReportFile | undefined): ReplayDiff {
    const results = loadResults(paths);
    const diff = diffResults(results);
    for (const note of diff.notes) this.note(note);
    this.print(renderDiff(diff, (title) => this.style.bold(title)));
    this.saveReport(report, (origin) => comparisonPage(diff, results, origin));
    return diff;
  }

  private async work<Result>(body: (observer: ReplayObserver) => Promise<Result>): Promise<Result> {
    let progress = this.progress({ label: 'starting', unit: 'count' });
    let hasBegun = false;
    let release = () => {};
    try {
      return await body({
        begins: (phase, total) => {
          hasBegun = true;
          progress.stop();
          progress = this.progress({ ...PHASES[phase], ...(total === undefined ? {} : { total }) });
        },
        progress: (done) => progress.update(done),
        warn: (message) => this.note(message),
        onInterrupt: (stop) => {
          release = this.onInterrupt(() => {
            if (!hasBegun) this.stopInput('interrupted before the trace was read: nothing was replayed');
            stop();
          });
        },
      });
    } finally {
      release();
      progress.stop();
    }
  }
}
