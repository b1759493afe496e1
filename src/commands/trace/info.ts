/** `pcache trace info`: describes a block trace. */
import { PcacheError } from '../../engine/errors.js';
import { PcacheCommand } from '../../output/base-command.js';
import { prose } from '../../output/prose.js';
import { renderReport } from '../../output/report.js';
import { breathe } from '../../output/terminal.js';
import { columnsChoice, traceArg, traceFlags } from '../../output/trace-flags.js';
import {
  describeTrace,
  tableOfColumns,
  TRACE_FORMATS,
  traceName,
  traceReport,
  withReadableTrace,
} from '../../trace/index.js';
import type { TraceInfo as TraceInfoResult, TraceAction, TraceFormat, TraceOptions } from '../../trace/index.js';

const PHASES = {
  measure: { label: 'measuring the trace', unit: 'count', noun: 'requests' },
  look: { label: 'reading the trace', unit: 'count', noun: 'requests' },
} as const;

export default class TraceInfo extends PcacheCommand {
  static override task = 'size' as const;
  static override summary = 'Describe a block trace.';
  static override description = prose`Reports operations and their sizes, the range of the device they touch, the working set and the mix of reads and writes
over time, how sequential the requests are, and the time between them.

TRACE is a blktrace recording (by its base name, or one file of it), text of blkparse, of the kernel's tracepoints or of
biosnoop, a fio iolog, or one of the published collections and simulator formats that docs/traces.md lists; each may be
compressed with gzip, zstd, xz, bzip2 or lz4, or be the one file in a zip or tar. The format is recognised from the
content; --columns describes any other table. The trace is read twice; standard input is kept in a temporary file for
that.

All devices of a trace are examined together unless --device selects one.

The working set of an interval is the part of the device that is touched in it. A request is sequential when it begins
where the previous request of its kind ended, and sequential in 32 streams when it continues one of the last 32 streams.`;

  static override examples = [
    { description: 'Describe a recording.', command: '<%= config.bin %> <%= command.id %> pgbench.blktrace' },
    {
      description: 'List the ten busiest volumes of a trace.',
      command: '<%= config.bin %> <%= command.id %> io_traces.csv.zst --json | jq ".devices[:10]"',
    },
  ];

  static override args = { trace: traceArg };
  static override flags = traceFlags(TRACE_FORMATS);

  async run(): Promise<TraceInfoResult> {
    const { args, flags } = await this.parse(TraceInfo);
    const table = columnsChoice(flags);
    const options: TraceOptions = {
      action: flags.action as TraceAction,
      ...(flags.device === undefined ? {} : { device: flags.device }),
      ...(flags.format === undefined ? {} : { format: flags.format as TraceFormat }),
      ...(table === undefined ? {} : { table: tableOfColumns(table) }),
      ...(flags['max-malformed'] === undefined ? {} : { malformedLimit: flags['max-malformed'] }),
    };
    const info = await this.work(args.trace, options);
    for (const warning of info.warnings) this.note(warning);
    this.print(renderReport(traceReport(info), (title) => this.style.bold(title)));
    return info;
  }

  private async work(trace: string, options: TraceOptions): Promise<TraceInfoResult> {
    let progress = this.progress(PHASES.measure);
    const whenInterrupted = `${traceName(trace)}: interrupted before its end`;
    const release = this.onInterrupt(() => this.stopInput(whenInterrupted));
    try {
      return await withReadableTrace(trace, { stdin: this.input, onPipe: this.onPipe }, (path, name) =>
        describeTrace(
          path,
          { ...options, name },
          {
            begins: (phase, total) => {
              progress.stop();
              progress = this.progress({ ...PHASES[phase], ...(total === undefined ? {} : { total }) });
            },
            progress: (done) => progress.update(done),
            turn: async () => {
              await breathe();
              if (this.interrupted) throw new PcacheError('INTERRUPTED', whenInterrupted);
            },
          },
        ),
      );
    } finally {
      release();
      progress.stop();
    }
  }
}
