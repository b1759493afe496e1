/** Arguments and flags of the commands that read a trace. */
import { Args, Flags } from '@oclif/core';

export const traceArg = Args.string({
  name: 'TRACE',
  required: true,
  description: 'the trace: a file, a blktrace recording by its base name, or - for standard input',
});

/** @param formats names of the formats that are read */
export const traceFlags = (formats: readonly string[]) => ({
  'format': Flags.string({
    description: `what TRACE is, where its content does not say so: ${formats.join(', ')}`,
    options: [...formats],
    helpValue: 'FORMAT',
  }),
  'action': Flags.string({
    description: 'which events are the requests, in blktrace recordings and blkparse text',
    options: ['queue', 'issue', 'complete'] as const,
    default: 'queue',
  }),
  'device': Flags.string({
    description: 'device to take from a trace of several, as the trace names it',
    helpValue: 'DEVICE',
  }),
  'max-malformed': Flags.integer({
    description: 'malformed records to pass over before giving up (100)',
    min: 0,
    helpValue: 'N',
  }),
});
