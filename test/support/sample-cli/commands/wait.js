import { Flags } from '@oclif/core';
import { PcacheError } from '../../../../dist/engine/errors.js';
import { PcacheCommand } from '../../../../dist/output/base-command.js';

/** Waits until it is interrupted, then ends as its flags say. */
export default class Wait extends PcacheCommand {
  static flags = { deaf: Flags.boolean(), stubborn: Flags.boolean(), throw: Flags.boolean() };

  async run() {
    const { flags } = await this.parse(Wait);
    const timer = setInterval(() => undefined, 1000);
    const stopped = new Promise((resolve) => {
      if (!flags.deaf) this.onInterrupt(() => flags.stubborn || resolve());
    });
    this.note('ready');
    await stopped;
    clearInterval(timer);
    if (flags.throw) throw new PcacheError('INTERRUPTED', 'stopped half-way');
    this.print('closed\n');
    return { interrupted: this.interrupted };
  }
}
