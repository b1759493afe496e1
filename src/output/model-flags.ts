/** Flags of the latency model of a simulation. */
import { Flags } from '@oclif/core';

const helpGroup = 'LATENCY MODEL (of --simulate)';
/** Something to be refined, which only a model is. */
const dependsOn = ['model'];

const number = (description: string, helpValue: string) =>
  Flags.integer({ description, helpValue, min: 0, dependsOn, helpGroup });
const positive = (description: string, helpValue: string) =>
  Flags.integer({ description, helpValue, min: 1, dependsOn, helpGroup });

/** @param presets names of the backing devices that are known */
export const modelFlags = (presets: readonly string[]) => ({
  'model': Flags.string({
    description: 'expected latencies with this backing device, at the pace of the trace unless --speed says',
    options: [...presets],
    dependsOn: ['simulate'],
    helpGroup,
  }),
  'backing-read-us': number('time a read takes beside its bytes', 'US'),
  'backing-write-us': number('the same of a write', 'US'),
  'backing-flush-us': number('time a flush takes', 'US'),
  'backing-seek-us': number('in addition where a call does not begin where the last one ended', 'US'),
  'backing-mb-s': positive('bytes of all calls together, in 1,000,000 a second', 'MB/S'),
  'backing-depth': positive('calls it works on at once', 'N'),
  'pmem-read-ns': number('time a read takes in the cache beside its bytes', 'NS'),
  'pmem-write-ns': number('the same of a write', 'NS'),
  'pmem-bench': Flags.string({
    description:
      'take pmem as "pcache bench --json" measured it: FILE of --pattern randread or randwrite; may be repeated',
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
  readonly 'backing-mb-s': number | undefined;
  readonly 'backing-depth': number | undefined;
  readonly 'pmem-read-ns': number | undefined;
  readonly 'pmem-write-ns': number | undefined;
  readonly 'pmem-bench': readonly string[] | undefined;
}

/** What the flags say, by the names that the simulation has for it. */
export const modelChoice = <Preset extends string>(preset: Preset, flags: ModelFlagValues) => ({
  preset,
  backingReadUs: flags['backing-read-us'],
  backingWriteUs: flags['backing-write-us'],
  backingFlushUs: flags['backing-flush-us'],
  backingSeekUs: flags['backing-seek-us'],
  backingMbPerSecond: flags['backing-mb-s'],
  backingDepth: flags['backing-depth'],
  pmemReadNs: flags['pmem-read-ns'],
  pmemWriteNs: flags['pmem-write-ns'],
  pmemBenches: flags['pmem-bench'] ?? [],
});
