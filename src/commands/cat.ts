/** `pcache cat`: the logical device, cache over backing, to standard output. */
import { Args } from '@oclif/core';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { LogicalReader } from '../engine/inspect/logical-reader.js';
import { loadForInspection, openForInspection } from '../engine/inspect/open.js';
import { appendRange, type ByteRange } from '../engine/media/byte-range.js';
import { sizeFlag } from '../output/flags.js';
import { acceptLossFlag, GatedCommand } from '../output/gated-command.js';
import { prose } from '../output/prose.js';
import { unreadableLines } from '../output/unreadable-lines.js';

const PIECE_BYTES = 1 << 20;

export default class Cat extends GatedCommand {
  static override enableJsonFlag = false;
  static override task = 'repair' as const;
  static override summary = 'Write the contents of the logical device to standard output.';
  static override description = prose`Writes the logical device byte for byte: cached data, and the backing device everywhere else. Changes nothing on either
device. Without BACKING only cached data can be read, and a range that is not wholly cached is refused.

A cache in which "pcache fsck" finds that dirty data may be lost or old is refused (exit status 4) unless --accept-loss
is given. Where a device cannot be read, zeroes are written, the ranges are listed on standard error, and the exit status
is 4. Payload is not checked against its CRC; run "pcache fsck" for that.`;

  static override examples = [
    {
      description: 'Save the whole device.',
      command: '<%= config.bin %> <%= command.id %> /dev/pmem0 /dev/sdb > disk.img',
    },
    {
      description: 'Show one block.',
      command: '<%= config.bin %> <%= command.id %> cache.img disk.img --offset 1MiB --length 4k | xxd',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', required: true, description: 'cache device or image file' }),
    backing: Args.string({ name: 'BACKING', description: 'backing device of CACHE' }),
  };

  static override flags = {
    'offset': sizeFlag({ description: 'first byte to write', default: 0 }),
    'length': sizeFlag({ description: 'number of bytes to write (default: up to the end)' }),
    'accept-loss': acceptLossFlag,
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Cat);
    if (flags.json) {
      throw new PcacheError(
        'USAGE',
        'the data and a JSON document cannot both go to standard output; leave out --json',
      );
    }
    if (this.output.isTerminal) {
      throw new PcacheError('USAGE', 'standard output is a terminal; redirect the data to a file or a pipe');
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
      this.requireSafe(devices.pmem, devices.backing?.sizeBytes, flags['accept-loss']);
      const unreadable = await this.copy(reader, flags.offset, flags.offset + length);
      for (const line of unreadableLines(args.cache, unreadable, 'zeroes are written for them')) this.note(line);
      if (unreadable.length > 0) this.setExitStatus(ExitStatus.problemsLeft);
    } finally {
      devices.close();
    }
  }

  /** @returns what could not be read */
  private async copy(reader: LogicalReader, from: number, to: number): Promise<ByteRange[]> {
    const unreadable: ByteRange[] = [];
    const buffer = new Uint8Array(PIECE_BYTES);
    for (let at = from; at < to;) {
      const length = Math.min(PIECE_BYTES, to - at);
      reader.read(at, buffer, 0, length, (range) => appendRange(unreadable, range));
      at += length;
      // The buffer is filled again only when the stream is done with it; the last piece is nobody's to overwrite.
      if (!this.output.write(buffer.subarray(0, length))) await this.output.drained();
    }
    return unreadable;
  }
}
