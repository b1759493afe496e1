/** Flags of the latency model of a simulation. */
import { Flags } from '@oclif/core';

const helpGroup = 'LATENCY MODEL';
/** Each flag refines a model. */
const dependsOn = ['model'];

const number = (description: string, helpValue: string) =>
  Flags.integer({ description, helpValue, min: 0, dependsOn, helpGroup });
const positive = (description: string, helpValue: string) =>
  Flags.integer({ description, helpValue, min: 1, dependsOn, helpGroup });

/** @param presets names of the known backing devices */
export const modelFlags = (presets: readonly string[]) => ({
  'model': Flags.string({
    description:
      'with --simulate: estimate latencies with this backing device, at the pace of the trace unless --speed is given',
    options: [...presets],
    dependsOn: ['simulate'],
    helpGroup,
  }),
  'backing-read-us': number('fixed time of a read from the backing device', 'US'),
  'backing-write-us': number('fixed time of a write to the backing device', 'US'),
  'backing-flush-us': number('time of a flush of the backing device', 'US'),
  'backing-seek-us': number(
    'additional time of a call that does not begin where the previous one ended, average over random offsets',
    'US',
  ),
  'backing-short-seek-us': number('the same over the shortest distance', 'US'),
  'backing-mb-s': positive('total throughput of the backing device, in MB (10^6 bytes) per second', 'MB/S'),
  'backing-depth': positive('number of calls that the backing device works on at once', 'N'),
  'pmem-read-ns': number('fixed time of a read from the cache device', 'NS'),
  'pmem-write-ns': number('fixed time of a write to the cache device', 'NS'),
  'pmem-bench': Flags.string({
    description:
      'take the cache device from a result of "pcache bench --json" with --pattern randread or randwrite; may be repeated',
    helpValue: 'FILE',
    multiple: true,
    dependsOn,
    helpGroup,
  }),
});

interface ModelFlagValues {
  readonly 'backing-read-us': number | undefined;
  readonly 'backing-write-us': number | undefined;
  readonly 'backing-flush-us': number | undefined;
  readonly 'backing-seek-us': number | undefined;
  readonly 'backing-short-seek-us': number | undefined;
  readonly 'backing-mb-s': number | undefined;
  readonly 'backing-depth': number | undefined;
  readonly 'pmem-read-ns': number | undefined;
  readonly 'pmem-write-ns': number | undefined;
  readonly 'pmem-bench': readonly string[] | undefined;
}

/** The values of the flags, by the names that the simulation uses. */
export const modelChoice = <Preset extends string>(preset: Preset, flags: ModelFlagValues) => ({
  preset,
  backingReadUs: flags['backing-read-us'],
  backingWriteUs: flags['backing-write-us'],
  backingFlushUs: flags['backing-flush-us'],
  backingSeekUs: flags['backing-seek-us'],
  backingShortSeekUs: flags['backing-short-seek-us'],
  backingMbPerSecond: flags['backing-mb-s'],
  backingDepth: flags['backing-depth'],
  pmemReadNs: flags['pmem-read-ns'],
  pmemWriteNs: flags['pmem-write-ns'],
  pmemBenches: flags['pmem-bench'] ?? [],
});
