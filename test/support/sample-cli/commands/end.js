import { Args } from '@oclif/core';
import { assert, PcacheError } from '../../../../dist/engine/errors.js';
import { PcacheCommand } from '../../../../dist/output/base-command.js';

/** Ends in the way that its argument names. */
export default class End extends PcacheCommand {
  static args = { how: Args.string({ required: true }) };

  async run() {
    const { args } = await this.parse(End);
    switch (args.how) {
      case 'well':
        this.print('a result\n');
        this.note('not a result');
        return { result: [1, 2] };
      case 'found':
        this.setExitStatus(4);
        this.print('4 problems\n');
        return { problems: 4 };
      case 'environment':
        throw new PcacheError('BUSY', '/dev/x: in use by y; stop that');
      case 'bug':
        return assert(args.how === 'x', 'this never holds');
      case 'later':
        setImmediate(() => {
          throw new TypeError('thrown outside of run');
        });
        return new Promise(() => undefined);
      case 'hanging':
        setInterval(() => undefined, 1000);
        return { native: this.nativeEnabled };
      default:
        return {};
    }
  }
}
