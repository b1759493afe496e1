/** `pcache bench scale`: what a request and a key cost as things grow. */
import { Flags } from '@oclif/core';
import { benchScale, type ScaleResult } from '../../bench/scale.js';
import { FULL_EFFORT, SCALE_AXES, scaleAxes } from '../../bench/scale-steps.js';
import { PcacheCommand } from '../../output/base-command.js';
import { DiscardedRows } from '../../output/discarded-rows.js';
import { sizeFlag, sizesFlag } from '../../output/flags.js';
import { renderReport } from '../../output/report.js';
import { scaleReport } from '../../output/scale-report.js';
import { breathe } from '../../output/terminal.js';

export default class BenchScale extends PcacheCommand {
  static override summary = 'Measure what a request and a key cost as cache, backing device or keys grow.';
  static override description = `Makes ephemeral caches one after the other, along one axis at a time, and measures in each random reads of
cached blocks and random writes, 4 KiB at depth 32, beside the limit that bench has; and how long attach, fsck
and dump-keys take. A cache is as large as it says, but takes memory only for its log, its index, and the payload
that requests touch: reads go to ${FULL_EFFORT.readTargetsMax} of its keys at most. A step that takes more than --memory is left out.
"load" is what a load from anywhere in as much memory as the index has takes: more keys cost more because what
they need has left the processor's caches. docs/performance.md tells how to read it.`;

  static override examples = [
    {
      description: 'All of it; takes some minutes and up to 10 GiB of memory.',
      command: '<%= config.bin %> <%= command.id %>',
    },
    {
      description: 'Two numbers of keys.',
      command: '<%= config.bin %> <%= command.id %> --axis keys --sizes 100000,1000000',
    },
  ];

  static override flags = {
    axis: Flags.option({ description: 'what grows; may be given again', options: SCALE_AXES, multiple: true })(),
    sizes: sizesFlag({ description: 'sizes along the axis, bytes or keys, instead of the usual; with one --axis' }),
    memory: sizeFlag({ description: 'memory that a step may take (default: 70% of what is free)' }),
    quick: Flags.boolean({ description: 'small steps and few rounds, to see that it works', default: false }),
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
        onProgress: (step, doing) => progress.update(step, doing),
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
