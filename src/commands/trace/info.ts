/** `pcache trace info`: what is in a block trace. */
import { PcacheError } from '../../engine/errors.js';
import { PcacheCommand } from '../../output/base-command.js';
import { renderReport } from '../../output/report.js';
import { breathe } from '../../output/terminal.js';
import { traceArg, traceFlags } from '../../output/trace-flags.js';
import { describeTrace, TRACE_FORMATS, traceReport, withReadableTrace } from '../../trace/index.js';
import type { TraceInfo as TraceInfoResult, TraceAction, TraceFormat, TraceOptions } from '../../trace/index.js';

const PHASES = {
  measure: { label: 'measuring the trace', unit: 'count', noun: 'requests' },
  look: { label: 'reading the trace', unit: 'count', noun: 'requests' },
} as const;

export default class TraceInfo extends PcacheCommand {
  static override summary = 'Tell what is in a block trace.';
  static override description = `Operations and their sizes, how much of the device they touch, the working set and the mix of reads and writes over
time, how sequential they are, and how they follow one another.
TRACE is a blktrace recording (by its base name, or one file), blkparse's text, a fio iolog (version 2 or 3), CSV of MSR
Cambridge, Alibaba, Tencent, or our own, or a vscsi trace of CloudPhysics, each also packed with gzip or zstd; its content
says which. docs/traces.md describes them. It is read twice; standard input is kept in a temporary file for that.
Of a trace of several devices all are looked at together, unless --device takes one.
The working set of an interval is what of the device is touched in it; sequential is what begins where the request of its
kind before it ended, in 32 streams what begins where one of the 32 before it ended.`;

  static override examples = [
    { description: 'What is in a recording?', command: '<%= config.bin %> <%= command.id %> pgbench.blktrace' },
    {
      description: 'The volumes of a trace with the most requests.',
      command: '<%= config.bin %> <%= command.id %> io_traces.csv.zst --json | jq ".devices[:10]"',
    },
  ];

  static override args = { trace: traceArg };
  static override flags = traceFlags(TRACE_FORMATS);

  async run(): Promise<TraceInfoResult> {
    const { args, flags } = await this.parse(TraceInfo);
    const options: TraceOptions = {
      action: flags.action as TraceAction,
      ...(flags.device === undefined ? {} : { device: flags.device }),
      ...(flags.format === undefined ? {} : { format: flags.format as TraceFormat }),
      ...(flags['max-malformed'] === undefined ? {} : { malformedLimit: flags['max-malformed'] }),
    };
    const info = await this.work(args.trace, options);
    for (const warning of info.warnings) this.note(warning);
    this.print(renderReport(traceReport(info), (title) => this.style.bold(title)));
    return info;
  }

  private async work(trace: string, options: TraceOptions): Promise<TraceInfoResult> {
    let progress = this.progress(PHASES.measure);
    const release = this.onInterrupt(() => undefined);
    try {
      return await withReadableTrace(trace, this.input, (path, name) =>
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
              if (this.interrupted) throw new PcacheError('INTERRUPTED', `${trace}: not read to its end`);
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
