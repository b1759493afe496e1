/** `pcache cat`: the logical device, cache over backing, to standard output. */
import { Args } from '@oclif/core';
import { PcacheError } from '../engine/errors.js';
import { LogicalReader } from '../engine/inspect/logical-reader.js';
import { loadForInspection, openForInspection } from '../engine/inspect/open.js';
import { PcacheCommand } from '../output/base-command.js';
import { sizeFlag } from '../output/flags.js';

const PIECE_BYTES = 1 << 20;

export default class Cat extends PcacheCommand {
  static override enableJsonFlag = false;
  static override summary = 'Write the data that a cache stands for to standard output.';
  static override description = `Writes the logical device, what is cached over what is on the backing device, byte for byte. Changes nothing
on either. Without BACKING only what is in the cache is known: a range with a hole in it is refused.
Payload is not checked against its CRC here; run "pcache fsck" for that.`;

  static override examples = [
    { description: 'Save all of it.', command: '<%= config.bin %> <%= command.id %> /dev/pmem0 /dev/sdb > disk.img' },
    {
      description: 'Look at one block.',
      command: '<%= config.bin %> <%= command.id %> cache.img disk.img --offset 1MiB --length 4k | xxd',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', required: true, description: 'cache device: a file or a device' }),
    backing: Args.string({ name: 'BACKING', description: 'its backing device' }),
  };

  static override flags = {
    offset: sizeFlag({ description: 'where to begin', default: 0 }),
    length: sizeFlag({ description: 'how much to write; up to the end when left out' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Cat);
    if (this.output.isTerminal) {
      throw new PcacheError('USAGE', 'binary data would go to the terminal; redirect it to a file or a pipe');
    }
    const devices = openForInspection({
      cachePath: args.cache,
      backingPath: args.backing,
      native: this.nativeEnabled,
    });
    try {
      const reader = new LogicalReader(devices.pmem, loadForInspection(devices), devices.backing);
      const length = flags.length ?? Math.max(0, reader.sizeBytes - flags.offset);
      reader.checkReadable(flags.offset, length);
      await this.copy(reader, flags.offset, flags.offset + length);
    } finally {
      devices.close();
    }
  }

  private async copy(reader: LogicalReader, from: number, to: number): Promise<void> {
    const buffer = new Uint8Array(PIECE_BYTES);
    for (let at = from; at < to;) {
      const length = Math.min(PIECE_BYTES, to - at);
      reader.read(at, buffer, 0, length);
      at += length;
      // The buffer is filled again only when the stream is done with it; the last piece is nobody's to overwrite.
      if (!this.output.write(buffer.subarray(0, length))) await this.output.drained();
    }
  }
}
