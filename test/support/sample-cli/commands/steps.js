import { Flags } from '@oclif/core';
import { PcacheCommand } from '../../../../dist/output/base-command.js';

/** Takes steps until they are done, or it is interrupted; says on standard error that the steps got to clear away. */
export default class Steps extends PcacheCommand {
  static flags = { count: Flags.integer({ default: Number.MAX_SAFE_INTEGER }) };

  async run() {
    const { flags } = await this.parse(Steps);
    const taken = await this.runSteps(this.steps(flags.count), {
      label: 'stepping',
      unit: 'count',
      stepsPerTurn: 4,
      whenInterrupted: 'stopped between two steps',
    });
    this.print(`${taken} steps\n`);
    return { taken };
  }

  *steps(count) {
    try {
      for (let n = 1; n <= count; n++) {
        if (n === 5) this.note('ready');
        yield n;
      }
      return count;
    } finally {
      this.note('cleared away');
    }
  }
}
