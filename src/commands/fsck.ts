/** `pcache fsck`: checks a cache and changes nothing. */
import { Args, Flags } from '@oclif/core';
import { bestCrc32c } from '../engine/device/native.js';
import { ExitStatus } from '../engine/errors.js';
import { openForInspection, type InspectedDevices } from '../engine/inspect/open.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import { checkCache, type CheckResult } from '../fsck/check.js';
import type { Finding } from '../fsck/findings.js';
import { checkJson, examinedLine, findingLine, omittedLines, verdictLine, type CheckJson } from '../fsck/report.js';
import { PcacheCommand } from '../output/base-command.js';
import { formatBytes } from '../output/units.js';

export default class Fsck extends PcacheCommand {
  static override summary = 'Check a cache.';
  static override description = `Looks for everything the kernel would refuse and everything it would silently lose: metadata, the segment
chain, both tails, every kset and key of the log, ksets cut off from it, and payload against its CRC where the
cache has data_crc. Changes nothing.
Each finding is one line: CODE, severity (error, warning, note), place, what is wrong, what the kernel does.
Exits 0 when there are no findings but notes, 4 when there are, 8 when the check could not be made.`;

  static override examples = [
    { description: 'Check a cache.', command: '<%= config.bin %> <%= command.id %> /dev/pmem0 /dev/sdb' },
    {
      description: 'Check all but the payload, for a program to read.',
      command: '<%= config.bin %> <%= command.id %> cache.img --no-data --json',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', required: true, description: 'cache device: a file or a device' }),
    backing: Args.string({ name: 'BACKING', description: 'its backing device; keys are checked against its size' }),
  };

  static override flags = {
    data: Flags.boolean({
      description: 'check payload against its CRC, where the cache has data_crc',
      default: true,
      allowNo: true,
    }),
  };

  async run(): Promise<CheckJson> {
    const { args, flags } = await this.parse(Fsck);
    const devices = openForInspection({
      cachePath: args.cache,
      backingPath: args.backing,
      native: this.nativeEnabled,
    });
    try {
      const result = this.check(devices, flags.data);
      this.report(args.cache, result);
      if (!result.clean) this.setExitStatus(ExitStatus.problemsLeft);
      return checkJson(args.cache, args.backing, result);
    } finally {
      devices.close();
    }
  }

  private check({ pmem, backing }: InspectedDevices, data: boolean): CheckResult {
    const progress = this.progress({ label: `checking ${pmem.path}`, unit: 'bytes' });
    try {
      return checkCache(pmem, {
        geometry: KERNEL_GEOMETRY,
        ...(backing === undefined ? {} : { backingBytes: backing.sizeBytes }),
        data,
        crc: bestCrc32c(),
        onProgress: (bytesRead) => progress.update(bytesRead),
      });
    } finally {
      progress.stop();
    }
  }

  private report(path: string, result: CheckResult): void {
    for (const finding of result.findings) {
      const line = findingLine(finding);
      this.print(`${this.painted(finding)}${line.slice(finding.code.length)}\n`);
    }
    for (const line of omittedLines(result)) this.print(`${line}\n`);
    for (const line of result.notChecked) this.print(`not checked: ${line}\n`);
    this.print(`${examinedLine(result.examined, formatBytes)}\n${this.style.bold(verdictLine(path, result))}\n`);
  }

  /** The finding's code in the colour of its severity. */
  private painted({ code, severity }: Finding): string {
    const { style } = this;
    if (severity === 'note') return style.dim(code);
    return severity === 'error' ? style.red(code) : style.yellow(code);
  }
}
