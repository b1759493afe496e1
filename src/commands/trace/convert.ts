/** `pcache trace convert`: converts a block trace to another format. */
import { Args, Flags } from '@oclif/core';
import { PcacheError } from '../../engine/errors.js';
import { PcacheCommand } from '../../output/base-command.js';
import { convertLine, convertNotes, type ConvertJson } from '../../output/convert-report.js';
import { prose } from '../../output/prose.js';
import { breathe } from '../../output/terminal.js';
import { columnsChoice, traceArg, traceFlags } from '../../output/trace-flags.js';
import { NewFile, writeAll } from '../../pack/target.js';
import {
  convertTrace,
  tableOfColumns,
  TRACE_FORMATS,
  traceName,
  WRITE_FORMATS,
  WRITE_TRAITS,
} from '../../trace/index.js';
import type { ConvertResult, TraceAction, TraceFormat, TraceOptions, WriteFormat } from '../../trace/index.js';

const FILE_MODE = 0o666;

export default class TraceConvert extends PcacheCommand {
  static override task = 'size' as const;
  static override summary = 'Convert a block trace to another format.';
  static override description = prose`Reads every format that "pcache trace info" reads, and writes blkparse text (queue events), a fio iolog (version 2 or
3), CSV in the format of MSR Cambridge, Alibaba or Tencent, a vscsi trace, or the CSV of pcache, which loses nothing:

  time_ns,op,offset_bytes,length_bytes,flags,device
  0,write,4096,8192,fua|sync,
  1250,flush,0,0,,

The first line names the columns, in any order; time_ns, flags and device are optional. op is read, write, flush or
discard (or r, w, f, d). flags is any of fua, preflush, sync, meta and ahead, separated by |. A device name that
contains a comma is quoted. Lines that begin with # are comments.

Whatever the output format cannot hold is left out, with a warning. An OUT that ends in .gz is compressed with gzip. OUT
appears under its name once it is complete; an existing file is not overwritten without --force. docs/traces.md
describes the formats.`;

  static override examples = [
    {
      description: 'Convert a recording for fio, to be replayed with --replay_redirect=DEVICE.',
      command: '<%= config.bin %> <%= command.id %> pgbench.blktrace pgbench.iolog --to iolog3',
    },
    {
      description: 'Extract one volume of a large trace.',
      command: '<%= config.bin %> <%= command.id %> io_traces.csv.zst - --to csv --device 419 | head',
    },
  ];

  static override args = {
    trace: traceArg,
    out: Args.string({ name: 'OUT', required: true, description: 'file to create, or - for standard output' }),
  };

  static override flags = {
    ...traceFlags(TRACE_FORMATS),
    to: Flags.string({
      description: `output format: ${WRITE_FORMATS.join(', ')}`,
      options: [...WRITE_FORMATS],
      required: true,
      helpValue: 'FORMAT',
    }),
    force: Flags.boolean({ char: 'f', description: 'overwrite OUT if it exists', default: false }),
  };

  async run(): Promise<ConvertJson> {
    const { args, flags } = await this.parse(TraceConvert);
    const to = flags.to as WriteFormat;
    const toOutput = args.out === '-';
    if (toOutput && this.output.isTerminal && WRITE_TRAITS[to].binary) {
      throw new PcacheError('USAGE', 'standard output is a terminal; redirect it, or give a file name');
    }
    if (toOutput && this.jsonEnabled()) {
      throw new PcacheError(
        'USAGE',
        'the trace and the JSON document cannot both go to standard output; give a file name',
      );
    }
    const table = columnsChoice(flags);
    const options: TraceOptions = {
      action: flags.action as TraceAction,
      stdin: this.input,
      onPipe: this.onPipe,
      ...(flags.device === undefined ? {} : { device: flags.device }),
      ...(flags.format === undefined ? {} : { format: flags.format as TraceFormat }),
      ...(table === undefined ? {} : { table: tableOfColumns(table) }),
      ...(flags['max-malformed'] === undefined ? {} : { malformedLimit: flags['max-malformed'] }),
    };
    const result = await this.work(args.trace, options, to, args.out, () =>
      toOutput ? undefined : new NewFile(args.out, flags.force, FILE_MODE),
    );
    const json = { ...result, file: toOutput ? null : args.out };
    for (const line of convertNotes(json)) this.note(line);
    if (toOutput) this.note(convertLine(json));
    else this.print(`${convertLine(json)}\n`);
    return json;
  }

  private async work(
    trace: string,
    options: TraceOptions,
    to: WriteFormat,
    out: string,
    createFile: () => NewFile | undefined,
  ): Promise<ConvertResult> {
    // Before the file is created: a signal without a handler would leave it behind, unfinished.
    const whenInterrupted = `${traceName(trace)}: not converted`;
    const release = this.onInterrupt(() => this.stopInput(whenInterrupted));
    const progress = this.progress({ label: 'converting', unit: 'count', noun: 'requests' });
    let file: NewFile | undefined;
    try {
      file = createFile();
      const result = await convertTrace({
        trace,
        options,
        to,
        gzip: out.endsWith('.gz'),
        sink: async (bytes) => {
          if (file !== undefined) writeAll(file.fd, file.path, bytes, null);
          else if (!this.output.write(bytes)) await this.output.drained();
        },
        progress: (requests) => progress.update(requests),
        turn: async () => {
          await breathe();
          if (this.interrupted) throw new PcacheError('INTERRUPTED', whenInterrupted);
        },
      });
      file?.finish();
      return result;
    } finally {
      file?.close();
      release();
      progress.stop();
    }
  }
}
