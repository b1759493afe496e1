/** `pcache replay`: runs a block trace through the cache. */
import { Args, Flags } from '@oclif/core';
import { curve } from '../curve/curve.js';
import type { CurveResult } from '../curve/result.js';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { GC_PERCENT_MAX } from '../engine/media/codecs.js';
import { PcacheCommand } from '../output/base-command.js';
import { renderCurve } from '../output/curve-report.js';
import { cacheSizesFlag, lruFlag, modeFlag, sizeFlag, speedFlag } from '../output/flags.js';
import { traceFlags } from '../output/trace-flags.js';
import { modelChoice, modelFlags } from '../output/model-flags.js';
import { renderDiff } from '../output/diff-report.js';
import { renderReport } from '../output/report.js';
import { diffResults, type ReplayDiff } from '../replay/diff.js';
import { replay, type ReplayObserver, type ReplayOptions, type TraceChoice } from '../replay/replay.js';
import { replayReport } from '../replay/report.js';
import { reportPage } from '../report-html/page.js';
import { ReportFile } from '../report-html/report-file.js';
import type { ReplayResult } from '../replay/result.js';
import { BACKING_PRESET_NAMES, modelOf, runSimulation, type BackingPreset } from '../simulate/index.js';
import { TRACE_FORMATS } from '../trace/index.js';

const PHASES = {
  scan: { label: 'reading the trace', unit: 'count', noun: 'requests' },
  replay: { label: 'replaying', unit: 'count', noun: 'requests' },
  drain: { label: 'writing back', unit: 'count', noun: 'keys' },
  compare: { label: 'comparing', unit: 'bytes' },
} as const;

/** What goes with real devices, or with one size only. */
const NOT_WITH_SIZES = ['cache', 'backing', 'cache-size', 'backing-size', 'verify', 'verify-reads', 'force'];

/** What a comparison does not replay. */
const NOT_WITH_DIFF = [
  ...NOT_WITH_SIZES,
  ...['data-crc', 'mode', 'gc-percent', 'speed', 'loop', 'lockstep', 'simulate', 'sizes', 'curve', 'lru'],
  ...['format', 'action', 'device', 'max-malformed', 'limit', 'report', 'model'],
];

export default class Replay extends PcacheCommand {
  static override summary = 'Replay a block trace through the cache and report what it did.';
  static override description = `TRACE is a blktrace recording by its base name (pgbench.blktrace for pgbench.blktrace.0, .1, and so on), one file of it,
or any other format that docs/traces.md describes: blkparse text, fio iologs, CSV of MSR, Alibaba, Tencent or our own,
vscsi; each also packed with gzip or zstd, or - for standard input. pcache trace info tells what is in it.
Without devices the cache and the backing device are ephemeral: sized from the trace, and gone afterwards.
With --cache and --backing those are used, and the backing device is overwritten; the cache must be formatted.
Discards are counted and skipped, since dm-pcache has none.`;

  // What goes with what is said by each flag; the library's own line of all of them cannot be read.
  static override usage = ['<%= command.id %> TRACE [FLAGS]', '<%= command.id %> A.json B.json --diff'];

  static override examples = [
    {
      description: 'How would this workload do with a cache of 1 GiB?',
      command: '<%= config.bin %> <%= command.id %> pgbench.blktrace --cache-size 1GiB',
    },
    {
      description: 'Check every byte that is read, and the backing device at the end.',
      command: '<%= config.bin %> <%= command.id %> pgbench.blktrace --verify',
    },
    {
      description: 'The same at a multiple of the speed, without a byte of payload.',
      command: '<%= config.bin %> <%= command.id %> pgbench.blktrace --cache-size 1GiB --simulate',
    },
    {
      description: 'What latencies to expect before a hard disk, and without the cache?',
      command: '<%= config.bin %> <%= command.id %> pgbench.blktrace --simulate --model hdd',
    },
    {
      description: 'How large a cache is worth it? Many sizes at once, simulated, beside an ideal LRU.',
      command: '<%= config.bin %> <%= command.id %> pgbench.blktrace --sizes 512MiB,1GiB,4GiB',
    },
    {
      description: 'What has a larger cache changed?',
      command: '<%= config.bin %> <%= command.id %> small.json large.json --diff',
    },
    {
      description: 'Straight from blktrace, for a script.',
      command: 'blktrace -d /dev/vdb -w 30 -o - | <%= config.bin %> <%= command.id %> - --json',
    },
  ];

  static override args = {
    // oclif would take an argument that is not given from standard input, which is the trace's.
    trace: Args.string({
      name: 'TRACE',
      required: true,
      ignoreStdin: true,
      description: 'the trace, or - for standard input',
    }),
    other: Args.string({ name: 'OTHER', ignoreStdin: true, description: 'with --diff, the second of two results' }),
  };

  static override flags = {
    'cache': Flags.string({ description: 'formatted cache device to use', helpValue: 'CACHE' }),
    'backing': Flags.string({
      description: 'backing device to use; it is overwritten',
      helpValue: 'BACKING',
    }),
    'cache-size': sizeFlag({
      description: 'size of the ephemeral cache (an eighth of the backing device, 512MiB to 4GiB)',
    }),
    'data-crc': Flags.boolean({
      description: 'the ephemeral cache keeps a CRC of every payload',
    }),
    'mode': modeFlag({ description: 'mode of the ephemeral cache (writeback)' }),
    'gc-percent': Flags.integer({
      description: 'collect when this much of the cache is used (the cache keeps it)',
      min: 0,
      max: GC_PERCENT_MAX,
      helpValue: 'N',
    }),
    'speed': speedFlag({
      description: 'max, realtime, or times the recorded speed such as 4x',
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
      description: 'in the time of the trace with background work keeping up: the same outcome each time',
      default: false,
    }),
    'simulate': Flags.boolean({
      description: 'run the engine without devices and without moving payload, in lockstep',
      exclusive: ['cache', 'backing', 'verify', 'verify-reads', 'force'],
    }),
    'backing-size': sizeFlag({
      description: 'of --simulate: size of the backing device; the trace is then read once, as it comes',
      dependsOn: ['simulate'],
    }),
    'sizes': cacheSizesFlag({
      description: 'simulate caches of these sizes at once, beside the LRU curve of the trace',
      exclusive: ['curve', ...NOT_WITH_SIZES],
    }),
    'curve': Flags.boolean({
      description: 'as --sizes, from 512MiB doubling until the trace fits, and once more',
      default: false,
      exclusive: NOT_WITH_SIZES,
    }),
    'lru': lruFlag({
      description: 'how the LRU curve is made (auto: exact unless the trace touches more than 64 GiB)',
      relationships: [{ type: 'some', flags: ['sizes', 'curve'] }],
    }),
    ...traceFlags(TRACE_FORMATS),
    'limit': Flags.integer({ description: 'stop after that many requests', min: 1, helpValue: 'N' }),
    'verify': Flags.boolean({
      description: 'stamp every sector, check every read, drain and compare the backing device',
      default: false,
    }),
    'verify-reads': Flags.boolean({
      description: 'check cached data against its CRC at each read (data_crc)',
      default: false,
    }),
    'report': Flags.string({
      description: 'write a page of charts to FILE; one that is not a report is not overwritten',
      helpValue: 'FILE.html',
    }),
    ...modelFlags(BACKING_PRESET_NAMES),
    'force': Flags.boolean({
      description: 'overwrite a backing device that holds a filesystem or the like',
    }),
    'diff': Flags.boolean({
      description: 'TRACE and OTHER are two results saved with --json: compare them',
      default: false,
      exclusive: NOT_WITH_DIFF,
    }),
  };

  async run(): Promise<ReplayResult | CurveResult | ReplayDiff> {
    const { args, flags } = await this.parse(Replay);
    if (flags.diff || args.other !== undefined) return this.compare(args.trace, args.other, flags.diff);
    const report = flags.report === undefined ? undefined : new ReportFile(flags.report);
    const choice: TraceChoice = {
      trace: args.trace,
      action: flags.action as TraceChoice['action'],
      traceDevice: flags.device,
      format: flags.format as TraceChoice['format'],
      malformedLimit: flags['max-malformed'],
      loops: flags.loop,
      limit: flags.limit ?? Infinity,
      stdin: this.input,
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
      const { sizes: sizesBytes, lru = 'auto' } = flags;
      const sizes = { ...choice, ...cache, sizesBytes, lru, model, speed };
      const result = await this.work((observer) => curve(sizes, observer));
      this.print(renderCurve(result, (title) => this.style.bold(title)));
      this.saveReport(report, result);
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
    this.saveReport(report, result);
    if (result.verify && result.verify.mismatchCount > 0) {
      this.note(`${args.trace}: ${result.verify.mismatchCount} mismatches found`);
      this.setExitStatus(ExitStatus.problemsLeft);
    }
    return result;
  }

  private saveReport(file: ReportFile | undefined, result: ReplayResult | CurveResult): void {
    if (!file) return;
    file.save(reportPage(result));
    this.print(`\nReport written to ${file.path}.\n`);
  }

  private compare(a: string, b: string | undefined, asked: boolean): ReplayDiff {
    if (!asked) throw new PcacheError('USAGE', `unexpected argument ${b}; a second one goes with --diff`);
    if (b === undefined) throw new PcacheError('USAGE', '--diff compares two results; give A.json and B.json');
    const diff = diffResults(a, b);
    for (const note of diff.notes) this.note(note);
    this.print(renderDiff(diff, (title) => this.style.bold(title)));
    return diff;
  }

  private async work<Result>(body: (observer: ReplayObserver) => Promise<Result>): Promise<Result> {
    let progress = this.progress({ label: 'starting', unit: 'count' });
    let release = () => {};
    try {
      return await body({
        begins: (phase, total) => {
          progress.stop();
          progress = this.progress({ ...PHASES[phase], ...(total === undefined ? {} : { total }) });
        },
        progress: (done) => progress.update(done),
        warn: (message) => this.note(message),
        onInterrupt: (stop) => {
          release = this.onInterrupt(stop);
        },
      });
    } finally {
      release();
      progress.stop();
    }
  }
}
