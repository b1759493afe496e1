/** `pcache fsck`: checks a cache, repairs it, and takes a repair back. */
import { Args, Flags } from '@oclif/core';
import { bestCrc32c } from '../engine/device/native.js';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { openForInspection, type InspectedDevices } from '../engine/inspect/open.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import { checkCache, type CheckResult } from '../fsck/check.js';
import type { Finding } from '../fsck/findings.js';
import type { Answer } from '../fsck/repair/repair.js';
import { repairDevice, undoRepair } from '../fsck/repair/repair-device.js';
import { lossSummaryText, nothingLost, type LossSummary } from '../fsck/repair/losses.js';
import { declinedLine, fixedLine, lossLines, questionText, repairJson, undoLine } from '../fsck/repair/report.js';
import type { RepairJson } from '../fsck/repair/report.js';
import type { Fix } from '../fsck/repair/types.js';
import { checkJson, examinedLine, findingLine, omittedLines, verdictLine, type CheckJson } from '../fsck/report.js';
import { PcacheCommand } from '../output/base-command.js';
import { askChoice } from '../output/question.js';
import { breathe } from '../output/terminal.js';
import { formatBytes } from '../output/units.js';

/** How repairs are decided on. */
type Consent = 'yes' | 'ask';

interface FsckJson extends CheckJson {
  /** What the repair lost, or may have. */
  readonly losses?: LossSummary;
  readonly repair?: RepairJson;
}

export default class Fsck extends PcacheCommand {
  static override summary = 'Check a cache, and repair it.';
  static override description = `Looks for everything the kernel would refuse and everything it would silently lose: metadata, the segment
chain, both tails, every kset and key of the log, ksets cut off from it, and payload against its CRC where the
cache has data_crc. Changes nothing unless it is told to.
Each finding is one line: CODE, severity (error, warning, note), place, what is wrong, what the kernel does.

With --repair it puts right what can be put right without losing anything that is still there, says what it had to
assume, and lists what is lost, or may be: those ranges read as an older version afterwards, or as the backing
device; every other byte is the newest that was written. What is not known to be written back counts as dirty.
Before the first change the old contents are saved in an undo file. Give the backing device too, where there is
one: keys are checked against its size.

Exits 0 when there are no findings but notes; 1 when there were, all are repaired, and nothing is or may be lost with
that (or --accept-loss was given); 4 when findings are left, or data is or may be lost; 8 when the check or the repair
could not be made.`;

  static override examples = [
    { description: 'Check a cache.', command: '<%= config.bin %> <%= command.id %> /dev/pmem0 /dev/sdb' },
    {
      description: 'Check all but the payload, for a program to read.',
      command: '<%= config.bin %> <%= command.id %> cache.img --no-data --json',
    },
    {
      description: 'Repair what can be repaired.',
      command: '<%= config.bin %> <%= command.id %> /dev/pmem0 /dev/sdb --repair --undo pmem0.undo',
    },
    {
      description: 'Take that back.',
      command: '<%= config.bin %> <%= command.id %> --undo-apply pmem0.undo /dev/pmem0',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', required: true, description: 'cache device: a file or a device' }),
    backing: Args.string({ name: 'BACKING', description: 'its backing device; keys are checked against its size' }),
  };

  static override flags = {
    'data': Flags.boolean({
      description: 'check payload against its CRC, where the cache has data_crc',
      default: true,
      allowNo: true,
    }),
    'dry-run': Flags.boolean({
      char: 'n',
      description: 'change nothing (the default)',
      exclusive: ['repair', 'interactive', 'undo-apply'],
    }),
    'repair': Flags.boolean({
      char: 'y',
      aliases: ['yes'],
      description: 'repair what is found, without asking',
      exclusive: ['interactive', 'undo-apply'],
    }),
    'interactive': Flags.boolean({
      char: 'i',
      description: 'ask before each repair, on a terminal',
      exclusive: ['undo-apply'],
    }),
    'drop-corrupt': Flags.boolean({
      description: 'also give up data whose payload is damaged, and list what is lost',
    }),
    'accept-loss': Flags.boolean({
      description:
        'count repairs as complete (status 1) although data is or may be lost, and make those that give up a log',
    }),
    'relink': Flags.boolean({
      description: 'take ksets behind the end of the log for a part of it, even if an earlier cache may have left them',
    }),
    'undo': Flags.string({
      description: 'where to save what is changed (CACHE.undo; for a device, in the current folder)',
      helpValue: 'FILE',
    }),
    'undo-apply': Flags.string({ description: 'take the repair back that FILE is of', helpValue: 'FILE' }),
  };

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(Fsck);
    const undoPath = flags['undo-apply'];
    if (flags.repair || flags.interactive) return this.repair(args.cache, args.backing, flags);
    for (const flag of ['drop-corrupt', 'accept-loss', 'relink', 'undo'] as const) {
      if (flags[flag]) throw new PcacheError('USAGE', `--${flag} is for repairs; give --repair or --interactive too`);
    }
    if (undoPath !== undefined) return this.takeBack(undoPath, args.cache);
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

  private async repair(
    cachePath: string,
    backingPath: string | undefined,
    flags: {
      'data': boolean;
      'interactive': boolean;
      'drop-corrupt': boolean;
      'accept-loss': boolean;
      'relink': boolean;
      'undo'?: string | undefined;
    },
  ): Promise<FsckJson> {
    if (flags.interactive && this.jsonEnabled()) {
      throw new PcacheError('USAGE', '--interactive and --json do not go together; use --repair');
    }
    if (flags.interactive && !this.input.isTTY) {
      throw new PcacheError('USAGE', '--interactive asks on a terminal; use --repair where there is none');
    }
    const progress = this.progress({ label: `checking ${cachePath}`, unit: 'bytes' });
    const release = this.onInterrupt(() => undefined);
    try {
      const { result, undoPath } = await repairDevice({
        cachePath,
        backingPath,
        undoPath: flags.undo,
        data: flags.data,
        relinkDoubtful: flags.relink,
        ask: this.asker(flags.interactive ? 'ask' : 'yes', flags['drop-corrupt'], flags['accept-loss']),
        onChecked: (checked) => {
          progress.stop();
          this.printFindings(checked);
        },
        onFixed: (fix) => this.print(`${fixedLine(fix)}\n`),
        onProgress: (bytesRead) => progress.update(bytesRead),
      });
      progress.stop();
      for (const fix of result.declined) this.print(`${declinedLine(fix)}\n`);
      if (undoPath !== undefined) this.print(`${undoLine(cachePath, undoPath)}\n`);
      const changed = result.made.length > 0;
      if (changed) this.report(cachePath, result.after);
      else this.printVerdict(cachePath, result.after);
      const lost = !nothingLost(result.losses);
      if (lost) this.print(`${lossSummaryText(result.losses, formatBytes)}\n`);
      const fixed = changed ? ExitStatus.fixed : ExitStatus.ok;
      const complete = result.after.clean && (!lost || flags['accept-loss']);
      this.setExitStatus(complete ? fixed : ExitStatus.problemsLeft);
      const repair = repairJson(result, undoPath);
      return { ...checkJson(cachePath, backingPath, result.before), losses: result.losses, repair };
    } finally {
      progress.stop();
      release();
    }
  }

  /** Answers for the user where they have answered already. */
  private asker(consent: Consent, dropCorrupt: boolean, acceptLoss: boolean): (fix: Fix) => Promise<Answer> {
    let all = consent === 'yes';
    return async (fix) => {
      await breathe();
      if (this.interrupted) return 'stop';
      if (fix.consent === 'drop-corrupt' && !dropCorrupt) return 'no';
      if (fix.consent === 'accept-loss' && !acceptLoss) return 'no';
      if (fix.consent === 'data-crc') return 'no';
      for (const line of lossLines(fix, formatBytes)) this.print(`${line}\n`);
      if (all) return 'yes';
      const choice = await askChoice(questionText(fix), this.input);
      if (choice === 'quit') return 'stop';
      if (choice === 'all') all = true;
      return choice === 'no' ? 'no' : 'yes';
    };
  }

  private takeBack(undoPath: string, cachePath: string): unknown {
    const { records, bytes, finished } = undoRepair(undoPath, cachePath);
    const what = finished ? 'the repair' : 'the repair that was cut off';
    this.print(`${cachePath}: ${what} is taken back, ${records} changes with ${formatBytes(bytes)}\n`);
    return { path: cachePath, undo: undoPath, records, finished };
  }

  private report(path: string, result: CheckResult): void {
    this.printFindings(result);
    this.printVerdict(path, result);
  }

  private printFindings(result: CheckResult): void {
    for (const finding of result.findings) {
      const line = findingLine(finding);
      this.print(`${this.painted(finding)}${line.slice(finding.code.length)}\n`);
    }
    for (const line of omittedLines(result)) this.print(`${line}\n`);
  }

  private printVerdict(path: string, result: CheckResult): void {
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
