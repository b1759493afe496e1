/** `pcache bench`: how fast the engine is, beside what memory itself allows. */
import { availableParallelism } from 'node:os';
import { Args, Flags } from '@oclif/core';
import { PATTERNS, type Pattern } from '../../bench/pattern.js';
import { benchRequests, type RequestBenchResult } from '../../bench/requests.js';
import { openBenchDevices } from '../../bench/devices.js';
import { JOBS_MAX } from '../../engine/index.js';
import { PcacheCommand } from '../../output/base-command.js';
import { requestBenchReport } from '../../output/bench-report.js';
import { sizeFlag } from '../../output/flags.js';
import { renderReport } from '../../output/report.js';

export default class Bench extends PcacheCommand {
  static override summary = 'Measure the engine beside what memory itself allows.';
  static override description = `Runs requests of one pattern through the engine in rounds, and after each round the same copies, at the
same addresses, in a native loop that does nothing else: the limit. A write is acknowledged when its payload is
fenced, at --depth 32 in groups with a fence each; the limit takes one request after the other, its writes with
a fence each.
Reads are of cached data. Write-back and collection happen between the rounds.
With --jobs the requests go through so many threads at once, each with the 4 MiB ranges of the device that fall to
it, an index, a data head and an open key set of its own, as the kernel has them per processor; the limit is taken
by as many threads at once. A round takes as long as its slowest job.
Without devices the cache is ephemeral and there is no backing device. With CACHE and BACKING both are overwritten.`;

  static override examples = [
    { description: 'Random 4 KiB writes, 32 at once.', command: '<%= config.bin %> <%= command.id %>' },
    {
      description: 'Random reads one at a time, of a large cache.',
      command: '<%= config.bin %> <%= command.id %> --pattern randread --depth 1 --cache-size 8GiB',
    },
    {
      description: 'Two threads at once.',
      command: '<%= config.bin %> <%= command.id %> --jobs 2',
    },
    {
      description: 'The ratio alone, for a script.',
      command: '<%= config.bin %> <%= command.id %> --data-crc --json | jq .ratio.median',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', description: 'formatted cache device to use; it is overwritten' }),
    backing: Args.string({ name: 'BACKING', description: 'its backing device; it is overwritten' }),
  };

  static override flags = {
    'pattern': Flags.string({ description: 'what is asked for', options: PATTERNS, default: 'randwrite' }),
    'bs': sizeFlag({ description: 'size of a request', default: 4096, defaultHelp: () => Promise.resolve('4KiB') }),
    'depth': Flags.integer({ description: 'requests in a group', default: 32, min: 1, max: 1024, helpValue: 'N' }),
    'jobs': Flags.integer({
      description: 'threads that the requests go through, a shard of the cache each',
      default: 1,
      min: 1,
      max: JOBS_MAX,
      helpValue: 'N',
    }),
    'data-crc': Flags.boolean({ description: 'the ephemeral cache keeps a CRC of every payload', default: false }),
    'fua': Flags.integer({ description: 'every Nth write is FUA', default: 0, min: 0, helpValue: 'N' }),
    'seconds': Flags.integer({ description: 'how long to measure, about', default: 5, min: 1, helpValue: 'N' }),
    'cache-size': sizeFlag({
      description: 'size of the ephemeral cache',
      default: 2 ** 31,
      defaultHelp: () => Promise.resolve('2GiB'),
    }),
    'span': sizeFlag({
      description: 'range of the logical device that requests are scattered over',
      default: 2 ** 32,
      defaultHelp: () => Promise.resolve('4GiB'),
    }),
    'force': Flags.boolean({ description: 'overwrite a backing device that holds a filesystem or the like' }),
  };

  async run(): Promise<RequestBenchResult> {
    const { args, flags } = await this.parse(Bench);
    const devices = openBenchDevices({
      cachePath: args.cache,
      backingPath: args.backing,
      cacheBytes: flags['cache-size'],
      dataCrc: flags['data-crc'],
      spanBytes: flags.span,
      blockBytes: flags.bs,
      force: flags.force ?? false,
    });
    if (flags.jobs > availableParallelism()) {
      this.note(`--jobs ${flags.jobs}: more than there are processors (${availableParallelism()}), which they share`);
    }
    let stopped = false;
    const release = this.onInterrupt(() => {
      stopped = true;
    });
    let progress = this.progress({ label: 'filling the cache', unit: 'count', noun: 'blocks' });
    let measuring = false;
    try {
      const result = await benchRequests({
        devices,
        pattern: flags.pattern as Pattern,
        blockBytes: flags.bs,
        depth: flags.depth,
        fuaEvery: flags.fua,
        jobs: flags.jobs,
        seconds: flags.seconds,
        spanBytes: devices.spanBytes,
        cpuNs: this.cpuNs,
        onFill: (blocks) => progress.update(blocks),
        onRound: (seconds) => {
          if (!measuring) {
            measuring = true;
            progress.stop();
            progress = this.progress({ label: 'measuring', unit: 'count', noun: 's', total: flags.seconds });
          }
          progress.update(Math.floor(seconds));
        },
        isStopped: () => stopped,
      });
      this.print(renderReport(requestBenchReport(result), (title) => this.style.bold(title)));
      return result;
    } finally {
      release();
      progress.stop();
      devices.close();
    }
  }
}
