/** `pcache bench`: measures the engine against the limit of the memory. */
import { availableParallelism } from 'node:os';
import { Args, Flags } from '@oclif/core';
import type { Pattern } from '../../bench/pattern.js';
import { benchRequests, type RequestBenchResult } from '../../bench/requests.js';
import { openBenchDevices } from '../../bench/bench-devices.js';
import { JOBS_MAX } from '../../engine/index.js';
import { PcacheCommand } from '../../output/base-command.js';
import { REQUEST_FLAGS } from '../../output/bench-flags.js';
import { requestBenchReport } from '../../output/bench-report.js';
import { prose } from '../../output/prose.js';
import { renderReport } from '../../output/report.js';

export default class Bench extends PcacheCommand {
  static override task = 'measure' as const;
  static override summary = 'Measure the engine against the limit of the memory.';
  static override description = prose`Runs requests of one pattern through the engine in rounds. After each round a native loop makes the same copies at the
same addresses and does nothing else: the limit. A write is acknowledged once its payload is fenced. At --depth 32
requests form groups with one fence each; the limit takes one request at a time, with one fence for each write. Reads
are of cached data. Write-back and garbage collection run between the rounds.

With --jobs the requests run in that many threads. Each thread owns a share of the 4 MiB subtrees of the device, with an
index, a data head and an open kset of its own, as the kernel has them for each processor; the limit is measured with as
many threads. A round lasts as long as its slowest job.

Without arguments the cache is temporary and there is no backing device. With CACHE and BACKING both are overwritten.`;

  static override examples = [
    { description: 'Random writes of 4 KiB at depth 32.', command: '<%= config.bin %> <%= command.id %>' },
    {
      description: 'Random reads at depth 1 from a large cache.',
      command: '<%= config.bin %> <%= command.id %> --pattern randread --depth 1 --cache-size 8GiB',
    },
    {
      description: 'Random writes in two threads.',
      command: '<%= config.bin %> <%= command.id %> --jobs 2',
    },
    {
      description: 'Print only the ratio.',
      command: '<%= config.bin %> <%= command.id %> --data-crc --json | jq .ratio.median',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', description: 'formatted cache device; it is overwritten' }),
    backing: Args.string({ name: 'BACKING', description: 'backing device of CACHE; it is overwritten' }),
  };

  static override flags = {
    'pattern': REQUEST_FLAGS.pattern,
    'bs': REQUEST_FLAGS.bs,
    'depth': REQUEST_FLAGS.depth,
    'jobs': Flags.integer({
      description: 'number of threads, each with its own shard of the cache',
      default: 1,
      min: 1,
      max: JOBS_MAX,
      helpValue: 'N',
    }),
    'data-crc': REQUEST_FLAGS['data-crc'],
    'fua': REQUEST_FLAGS.fua,
    'seconds': Flags.integer({
      description: 'approximate duration of the measurement',
      default: 5,
      min: 1,
      helpValue: 'N',
    }),
    'cache-size': REQUEST_FLAGS['cache-size'],
    'span': REQUEST_FLAGS.span,
    'force': Flags.boolean({
      char: 'f',
      description: 'overwrite a backing device that holds a filesystem or other recognised data',
    }),
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
      const processors = `the ${availableParallelism()} available processors`;
      this.note(`--jobs ${flags.jobs} exceeds ${processors}; threads share them ("pcache bench jobs" models more)`);
    }
    let stopped = false;
    const release = this.onInterrupt(() => {
      stopped = true;
    });
    let progress = this.progress({ label: 'filling the cache', unit: 'count', noun: 'blocks' });
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
        onFill: (blocks, total) => progress.update(blocks, { total }),
        onRound: (share) => {
          if (share === 0) {
            progress.stop();
            progress = this.progress({ label: 'measuring', unit: 'share' });
          }
          progress.update(share);
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
