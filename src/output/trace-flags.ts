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
