/** Arguments and flags of the commands that read a trace. */
import { Args, Flags } from '@oclif/core';

export const traceArg = Args.string({
  name: 'TRACE',
  required: true,
  description: 'trace: a file, the base name of a blktrace recording, or - for standard input',
});

/** @param formats names of the formats that are read */
export const traceFlags = (formats: readonly string[]) => ({
  'format': Flags.string({
    description: `format of TRACE, if its content does not tell: ${formats.join(', ')}`,
    options: [...formats],
    helpValue: 'FORMAT',
  }),
  'columns': Flags.string({
    description:
      'what the columns of any other table hold, counted from 1, for example ' +
      'time=1:ms,op=2:W/R,offset=3:sectors,length=4:bytes; or with --columns-file a name in it',
    helpValue: 'COLUMNS',
    exclusive: ['format'],
  }),
  'columns-file': Flags.string({
    description: 'JSON file of named tables: { "NAME": { "columns": "…", "skip": 1, "separator": ";" } }',
    helpValue: 'FILE',
    dependsOn: ['columns'],
  }),
  'skip': Flags.integer({
    description: 'lines to pass over at the beginning of such a table',
    min: 0,
    helpValue: 'N',
    dependsOn: ['columns'],
  }),
  'separator': Flags.string({
    description: 'its separator: a character, or comma, tab, semicolon, bar, space (found out if not given)',
    helpValue: 'X',
    dependsOn: ['columns'],
  }),
  'action': Flags.string({
    description: 'events to take as requests, in blktrace recordings and blkparse text',
    options: ['queue', 'issue', 'complete'] as const,
    default: 'queue',
  }),
  'device': Flags.string({
    description: 'select one device of a trace by the name it has in the trace',
    helpValue: 'DEVICE',
  }),
  'max-malformed': Flags.integer({
    description: 'number of malformed records to skip before giving up (default: 100)',
    min: 0,
    helpValue: 'N',
  }),
});

interface TableFlagValues {
  readonly 'columns': string | undefined;
  readonly 'columns-file': string | undefined;
  readonly 'skip': number | undefined;
  readonly 'separator': string | undefined;
}

/** What the flags say of a table, by the names that the trace readers have for it; undefined without --columns. */
export function columnsChoice(flags: TableFlagValues) {
  if (flags.columns === undefined) return undefined;
  return {
    columns: flags.columns,
    file: flags['columns-file'],
    skipLines: flags.skip,
    separator: flags.separator,
  };
}
