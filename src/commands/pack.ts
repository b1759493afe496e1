/** `pcache pack`: a cache in one small file, for a bug report. */
import { Args, Flags } from '@oclif/core';
import { bestCrc32c } from '../engine/device/native.js';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import { PcacheCommand } from '../output/base-command.js';
import { packLine, packNotes, type PackJson } from '../output/pack-report.js';
import { prose } from '../output/prose.js';
import { breathe } from '../output/terminal.js';
import { packTo } from '../pack/pack-to.js';
import type { PackPhase, PackTotals } from '../pack/pack.js';

const PHASES = {
  pack: { label: 'packing', unit: 'bytes' },
  check: { label: 'checking payload', unit: 'bytes' },
} as const;

export default class Pack extends PcacheCommand {
  static override task = 'inspect' as const;
  static override summary = 'Pack a cache into one small file for a bug report.';
  static override description = prose`The pack holds the metadata: superblock, cache_info, tails, segment infos and generations, every kset on the device
(ksets that are no longer part of the log included), and which payloads match their CRC. It holds no data unless --data
is given; keys tell which ranges of the device were written, but not what was written.

"pcache fsck", "info", "dump-keys" and "map" read a pack as they read a cache; "pcache unpack" turns it back into an
image. A damaged cache can be packed as well: the pack is complete, but the damage is reported on standard error and the
exit status is 4. Changes nothing on the cache.`;

  static override examples = [
    {
      description: 'Pack the metadata for a bug report.',
      command: '<%= config.bin %> <%= command.id %> /dev/pmem0 cache.pack',
    },
    {
      description: 'Copy the whole cache over the network.',
      command: '<%= config.bin %> <%= command.id %> /dev/pmem0 - --data | ssh host "cat > cache.pack"',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', required: true, description: 'cache device or image file' }),
    file: Args.string({ name: 'FILE', required: true, description: 'file to create, or - for standard output' }),
  };

  static override flags = {
    data: Flags.boolean({ description: 'include the data: the whole device', default: false }),
    force: Flags.boolean({ char: 'f', description: 'overwrite FILE if it exists', default: false }),
  };

  async run(): Promise<PackJson> {
    const { args, flags } = await this.parse(Pack);
    const toOutput = args.file === '-';
    if (toOutput && this.output.isTerminal) {
      throw new PcacheError('USAGE', 'standard output is a terminal; redirect it, or give a file name');
    }
    if (toOutput && this.jsonEnabled()) {
      throw new PcacheError(
        'USAGE',
        'the pack and the JSON document cannot both go to standard output; give a file name',
      );
    }
    const totals = await this.work(args.cache, toOutput ? undefined : args.file, flags.data, flags.force);
    const pack = { path: args.cache, file: toOutput ? null : args.file, payload: flags.data, ...totals };
    const notes = packNotes(pack);
    for (const line of notes) this.note(line);
    if (notes.length > 0) this.setExitStatus(ExitStatus.problemsLeft);
    if (toOutput) this.note(packLine(pack));
    else this.print(`${packLine(pack)}\n`);
    return pack;
  }

  private async work(
    cachePath: string,
    filePath: string | undefined,
    payload: boolean,
    force: boolean,
  ): Promise<PackTotals> {
    let current: PackPhase | undefined;
    let progress = this.progress(PHASES.pack);
    const release = this.onInterrupt(() => undefined);
    try {
      return await packTo({
        cachePath,
        filePath,
        payload,
        force,
        native: this.nativeEnabled,
        geometry: KERNEL_GEOMETRY,
        crc: bestCrc32c(),
        sink: async (bytes) => {
          if (!this.output.write(bytes)) await this.output.drained();
        },
        onProgress: ({ phase, doneBytes, totalBytes }) => {
          if (phase !== current) {
            current = phase;
            progress.stop();
            progress = this.progress({ ...PHASES[phase], ...(totalBytes === undefined ? {} : { total: totalBytes }) });
          }
          progress.update(doneBytes);
        },
        turn: async () => {
          await breathe();
          if (this.interrupted) throw new PcacheError('INTERRUPTED', `${cachePath}: not packed`);
        },
      });
    } finally {
      release();
      progress.stop();
    }
  }
}
