/** `pcache bench scale`: measures how costs grow with size. */
import { Flags } from '@oclif/core';
import { benchScale, type ScaleResult } from '../../bench/scale.js';
import { FULL_EFFORT, SCALE_AXES, scaleAxes } from '../../bench/scale-steps.js';
import { PcacheCommand } from '../../output/base-command.js';
import { DiscardedRows } from '../../output/discarded-rows.js';
import { sizeFlag, sizesFlag } from '../../output/flags.js';
import { prose } from '../../output/prose.js';
import { renderReport } from '../../output/report.js';
import { scaleReport } from '../../output/scale-report.js';
import { breathe } from '../../output/terminal.js';

export default class BenchScale extends PcacheCommand {
  static override task = 'measure' as const;
  static override summary = 'Measure how costs grow with the size of the cache, the backing device or the index.';
  static override description = prose`Creates temporary caches along one axis at a time. In each it measures random reads of cached blocks and random writes
(4 KiB, depth 32) against the same limit as "pcache bench", and the duration of attach, fsck and dump-keys. A cache of
any size takes memory only for its log, its index and the payload that requests touch: reads go to at most
${FULL_EFFORT.readTargetsMax} of its keys. A step that needs more than --memory is left out.

The column "load" is the time of one load from a random address in as much memory as the index takes: requests cost more
with more keys because what they need no longer fits the caches of the processor. docs/performance.md explains how to
read the result.`;

  static override examples = [
    {
      description: 'Measure every axis; takes several minutes and up to 10 GiB of memory.',
      command: '<%= config.bin %> <%= command.id %>',
    },
    {
      description: 'Compare two numbers of keys.',
      command: '<%= config.bin %> <%= command.id %> --axis keys --sizes 100000,1000000',
    },
  ];

  static override flags = {
    axis: Flags.option({
      description: 'axis to measure; may be repeated (default: all)',
      options: SCALE_AXES,
      multiple: true,
    })(),
    sizes: sizesFlag({ description: 'sizes along the one given --axis, in bytes or keys' }),
    memory: sizeFlag({ description: 'memory limit of a step (default: 70% of free memory)' }),
    quick: Flags.boolean({ description: 'small steps and few rounds, for a trial run', default: false }),
  };

  async run(): Promise<ScaleResult> {
    const { flags } = await this.parse(BenchScale);
    const { quick, memory } = flags;
    const axes = scaleAxes(flags.axis, flags.sizes, quick);
    const steps = axes.reduce((sum, { sizes }) => sum + sizes.length, 0);
    const progress = this.progress({ label: 'step', unit: 'count', total: steps });
    const release = this.onInterrupt(() => {});
    try {
      const result = await benchScale({
        axes,
        quick,
        memoryBytes: memory,
        openRows: () => new DiscardedRows(),
        onProgress: (step, doing) => progress.update(step, { note: doing }),
        breathe,
        isStopped: () => this.interrupted,
      });
      this.print(renderReport(scaleReport(result), (title) => this.style.bold(title)));
      return result;
    } finally {
      release();
      progress.stop();
    }
  }
}
