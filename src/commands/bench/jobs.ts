/** `pcache bench jobs`: models how the request path scales with processors. */
import { Flags } from '@oclif/core';
import { benchJobsModel, type JobsBenchResult } from '../../bench/jobs-bench.js';
import type { Pattern } from '../../bench/pattern.js';
import { JOBS_MAX, PcacheError } from '../../engine/index.js';
import { PcacheCommand } from '../../output/base-command.js';
import { REQUEST_FLAGS } from '../../output/bench-flags.js';
import { jobsBenchReport } from '../../output/bench-report.js';
import { prose } from '../../output/prose.js';
import { renderReport } from '../../output/report.js';

const jobsFlag = Flags.custom<number[]>({
  helpValue: 'N,N,…',
  parse: (text) => {
    const numbers = text.split(',').map((part) => (/^\s*\d+\s*$/.test(part) ? Number(part) : 0));
    const isGood = numbers.every((jobs, i) => jobs >= 1 && jobs <= JOBS_MAX && (i === 0 || jobs > numbers[i - 1]));
    if (isGood) return Promise.resolve(numbers);
    const accepted = `give numbers from 1 to ${JOBS_MAX} in ascending order, such as 1,4,16`;
    return Promise.reject(new PcacheError('USAGE', `--jobs '${text}': ${accepted}`));
  },
});

export default class BenchJobs extends PcacheCommand {
  static override task = 'measure' as const;
  static override summary = 'Model how the request path scales with processors.';
  static override description = prose`Shows up to how many jobs the engine scales, and what its lock costs, on a machine with a processor for each job. This
machine need not have that many. The shards of a temporary cache run one after another, each alone; how long a group of
requests takes, how long it holds the lock and which shared cache lines it touches is recorded. The recordings are then
played at once in virtual time: a job waits while another one holds the lock, and for each cache line that another
processor has changed.

The bandwidth of the memory is not modelled. It limits large requests long before the lock does; "pcache bench --jobs"
measures both on the processors that are there. Nor are write-back and garbage collection, which have a thread of their
own.`;

  static override examples = [
    { description: 'Random writes of 4 KiB at depth 32.', command: '<%= config.bin %> <%= command.id %>' },
    {
      description: 'Writes that are all FUA, one at a time.',
      command: '<%= config.bin %> <%= command.id %> --depth 1 --fua 1 --jobs 1,2,4,8',
    },
  ];

  static override flags = {
    'jobs': jobsFlag({
      description: 'numbers of jobs, in ascending order',
      default: [1, 2, 4, 8, 16, 32],
      defaultHelp: () => Promise.resolve('1,2,4,8,16,32'),
    }),
    'pattern': REQUEST_FLAGS.pattern,
    'bs': REQUEST_FLAGS.bs,
    'depth': REQUEST_FLAGS.depth,
    'data-crc': REQUEST_FLAGS['data-crc'],
    'fua': REQUEST_FLAGS.fua,
    'transfer-ns': Flags.integer({
      description: 'time that a cache line from another processor takes, ns',
      default: 100,
      min: 0,
      max: 100_000,
      helpValue: 'N',
    }),
    'cache-size': REQUEST_FLAGS['cache-size'],
    'span': REQUEST_FLAGS.span,
  };

  async run(): Promise<JobsBenchResult> {
    const { flags } = await this.parse(BenchJobs);
    const progress = this.progress({ label: 'recording', unit: 'count', noun: 'steps', total: flags.jobs.length });
    const release = this.onInterrupt(() => {});
    try {
      const result = await benchJobsModel({
        pattern: flags.pattern as Pattern,
        blockBytes: flags.bs,
        depth: flags.depth,
        fuaEvery: flags.fua,
        dataCrc: flags['data-crc'],
        cacheBytes: flags['cache-size'],
        spanBytes: flags.span,
        jobs: flags.jobs,
        transferNs: flags['transfer-ns'],
        onStep: (steps) => progress.update(steps),
        isStopped: () => this.interrupted,
      });
      this.print(renderReport(jobsBenchReport(result), (title) => this.style.bold(title)));
      return result;
    } finally {
      release();
      progress.stop();
    }
  }
}
