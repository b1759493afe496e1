/** `pcache fsck`: checks a cache, repairs it, and undoes a repair. */
import { Args, Flags } from '@oclif/core';
import { bestCrc32c } from '../engine/device/native.js';
import { PcacheError } from '../engine/errors.js';
import { openForInspection, type InspectedDevices } from '../engine/inspect/open.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import { checkCache, type CheckResult } from '../fsck/check.js';
import { KERNEL_DEFAULT, KERNELS, type KernelVersion } from '../fsck/consequences.js';
import { checkStatus, repairStatus } from '../fsck/exit-status.js';
import type { Finding } from '../fsck/findings.js';
import type { Answer } from '../fsck/repair/repair.js';
import { backUpMetadata } from '../fsck/repair/metadata-backup.js';
import { repairDevice, restoreDevice, undoRepair } from '../fsck/repair/repair-device.js';
import { lossSummaryText, nothingLost, saysAnything, type LossSummary } from '../fsck/repair/losses.js';
import {
  declinedLine,
  fixedLine,
  lossLines,
  questionText,
  repairJson,
  undoLine,
} from '../fsck/repair/repair-report.js';
import type { RepairJson } from '../fsck/repair/repair-report.js';
import type { Fix } from '../fsck/repair/types.js';
import {
  checkJson,
  examinedLine,
  findingLine,
  omittedLines,
  verdictLine,
  type CheckJson,
} from '../fsck/check-report.js';
import { PcacheCommand } from '../output/base-command.js';
import { prose } from '../output/prose.js';
import { askChoice } from '../output/question.js';
import { breathe } from '../output/terminal.js';
import { formatBytes } from '../output/units.js';

/** How often a cache that is in use is checked until a check finds it clean. */
const CHECKS_IN_USE_MAX = 5;

/** Whether a repair needs an answer from the user. */
type Consent = 'yes' | 'ask' | 'without-loss';

export interface FsckJson extends CheckJson {
  /** What the repair lost, or may have. */
  readonly losses?: LossSummary;
  readonly repair?: RepairJson;
}

/** The result of --undo-apply. */
export interface UndoJson {
  readonly path: string;
  readonly undo: string;
  /** Changes that were undone. */
  readonly records: number;
  /** False for a repair that had been interrupted. */
  readonly finished: boolean;
}

/** The result of --backup-metadata. */
export interface BackupJson {
  readonly path: string;
  readonly backup: string;
  /** Size of the backup. */
  readonly bytes: number;
}

/** --preen never loses data, --repair needs no answers, --interactive asks. */
function consentOf(flags: { readonly interactive: boolean; readonly preen: boolean }): Consent {
  if (flags.preen) return 'without-loss';
  return flags.interactive ? 'ask' : 'yes';
}

export default class Fsck extends PcacheCommand {
  static override task = 'repair' as const;
  static override summary = 'Check a cache and optionally repair it.';
  static override description = prose`Looks for everything that the kernel would refuse and everything that it would silently lose: metadata, the chain of
segments, both tails, every kset and key of the log, ksets cut off from the log, and, with data_crc, payload against its
CRC. Changes nothing unless a repair is requested. Give BACKING where it is available: keys are checked against its
size.

Each finding is one line: CODE, severity (error, warning or note), position, what is wrong, and what the kernel does
about it. docs/findings.md explains every code.

A repair restores everything that is still present, reports what it assumed, and lists the ranges that are or may be
lost: those read as an older version afterwards, or as the backing device; every other byte reads as the newest that was
written. Data not known to be written back counts as dirty. The old contents of every changed byte are saved in an undo
file before the first change.

Exits 0 without findings other than notes; 1 when all findings were repaired and no data is or may be lost (or
--accept-loss was given); 4 when findings are left, or data is or may be lost; and 8 when the check or the repair could
not be carried out.`;

  static override examples = [
    { description: 'Check a cache.', command: '<%= config.bin %> <%= command.id %> /dev/pmem0 /dev/sdb' },
    {
      description: 'Check everything except payload, with the result as JSON.',
      command: '<%= config.bin %> <%= command.id %> cache.img --no-data --json',
    },
    {
      description: 'Repair a cache and save the old contents.',
      command: '<%= config.bin %> <%= command.id %> /dev/pmem0 /dev/sdb --repair --undo pmem0.undo',
    },
    {
      description: 'Keep the metadata of a sound cache, for when its beginning is lost.',
      command: '<%= config.bin %> <%= command.id %> /dev/pmem0 --backup-metadata pmem0.metadata',
    },
    {
      description: 'Undo the repair.',
      command: '<%= config.bin %> <%= command.id %> --undo-apply pmem0.undo /dev/pmem0',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', required: true, description: 'cache device or image file' }),
    backing: Args.string({
      name: 'BACKING',
      description: 'backing device of CACHE; keys are checked against its size',
    }),
  };

  static override flags = {
    'data': Flags.boolean({
      description: 'check payload against its CRC (caches with data_crc only)',
      default: true,
      allowNo: true,
    }),
    'dry-run': Flags.boolean({
      char: 'n',
      description: 'change nothing (the default), and check a cache that is in use too',
      exclusive: ['repair', 'preen', 'interactive', 'undo-apply'],
    }),
    'preen': Flags.boolean({
      char: 'p',
      description: 'repair without asking whatever loses no data, and leave the rest',
      exclusive: ['repair', 'interactive', 'undo-apply', 'drop-corrupt', 'accept-loss'],
    }),
    'repair': Flags.boolean({
      char: 'y',
      aliases: ['yes'],
      description: 'repair all findings without asking',
      exclusive: ['interactive', 'undo-apply'],
    }),
    'interactive': Flags.boolean({
      char: 'i',
      description: 'ask before each repair',
      exclusive: ['undo-apply'],
    }),
    'drop-corrupt': Flags.boolean({
      description: 'drop keys with damaged payload as well, and list the lost ranges',
    }),
    'accept-loss': Flags.boolean({
      description: 'carry out repairs that give up a log, and exit 1 although data is or may be lost',
    }),
    'data-crc': Flags.string({
      description: 'what cache_info said of data_crc, where it is lost and nothing else tells',
      options: ['on', 'off'],
    }),
    'kernel': Flags.string({
      description: 'say what this version of Linux does with the cache, in the last line',
      options: [...KERNELS],
      default: KERNEL_DEFAULT,
    }),
    'force': Flags.boolean({
      char: 'f',
      description: 'accepted for the sake of e2fsck: every check is complete anyway',
    }),
    'relink': Flags.boolean({
      description:
        'treat ksets found behind the end of the log as part of it, even if they may belong to an earlier cache',
    }),
    'undo': Flags.string({
      description: 'undo file (default: CACHE.undo; for a device, in the current folder)',
      helpValue: 'FILE',
    }),
    'backup-metadata': Flags.string({
      description: 'write the metadata of a sound cache to FILE, a few KiB, to keep beside the backups',
      helpValue: 'FILE',
      exclusive: ['repair', 'interactive', 'undo-apply', 'restore-metadata'],
    }),
    'restore-metadata': Flags.string({
      description: 'write metadata from FILE again where they are lost, and check',
      helpValue: 'FILE',
      exclusive: ['repair', 'interactive', 'undo-apply'],
    }),
    'undo-apply': Flags.string({ description: 'undo the repair recorded in FILE', helpValue: 'FILE' }),
  };

  private kernel: KernelVersion = KERNEL_DEFAULT;

  async run(): Promise<FsckJson | UndoJson | BackupJson> {
    const { args, flags } = await this.parse(Fsck);
    this.kernel = flags.kernel as KernelVersion;
    const undoPath = flags['undo-apply'];
    if (flags.repair || flags.preen || flags.interactive) return this.repair(args.cache, args.backing, flags);
    for (const flag of ['drop-corrupt', 'accept-loss', 'data-crc', 'relink', 'undo'] as const) {
      if (flag === 'undo' && flags['restore-metadata'] !== undefined) continue;
      if (flags[flag]) throw new PcacheError('USAGE', `--${flag} needs --repair or --interactive`);
    }
    if (undoPath !== undefined) return this.takeBack(undoPath, args.cache);
    const restored = flags['restore-metadata'];
    if (restored !== undefined) this.restore(args.cache, restored, flags.undo);
    let inUse = false;
    const devices = openForInspection({
      cachePath: args.cache,
      backingPath: args.backing,
      native: this.nativeEnabled,
      ...(flags['dry-run'] && {
        onBusy: (path: string, use: string) => {
          inUse = true;
          this.note(`${path}: ${use}; it may change while it is checked`);
        },
      }),
    });
    try {
      const backup = flags['backup-metadata'];
      if (backup !== undefined) return this.backUp(devices, backup);
      let result = this.check(devices, flags.data);
      // What is being changed during a check may look wrong; damage is found by every check.
      for (let n = 1; inUse && !result.clean && n < CHECKS_IN_USE_MAX; n++) result = this.check(devices, flags.data);
      this.report(args.cache, result);
      this.setExitStatus(checkStatus(result));
      return checkJson(args.cache, args.backing, result);
    } finally {
      devices.close();
    }
  }

  private backUp({ pmem }: InspectedDevices, file: string): BackupJson {
    const bytes = backUpMetadata(pmem, KERNEL_GEOMETRY, file);
    this.print(`${pmem.path}: metadata saved in ${file}, ${formatBytes(bytes)}\n`);
    return { path: pmem.path, backup: file, bytes };
  }

  private restore(cachePath: string, file: string, givenUndo: string | undefined): void {
    const { restored, undoPath } = restoreDevice(cachePath, file, givenUndo);
    const { parts, mayBeOld } = restored;
    for (const part of parts)
      this.print(`restored: ${part}${mayBeOld.includes(part) ? ' (possibly an old version)' : ''}\n`);
    if (parts.length === 0) this.print(`${cachePath}: no metadata is lost; nothing was restored\n`);
    if (undoPath !== undefined) this.print(`${undoLine(cachePath, undoPath)}\n`);
  }

  private check({ pmem, backing }: InspectedDevices, data: boolean): CheckResult {
    const progress = this.checkProgress(pmem.path);
    try {
      return checkCache(pmem, {
        geometry: KERNEL_GEOMETRY,
        ...(backing === undefined ? {} : { backingBytes: backing.sizeBytes }),
        data,
        crc: bestCrc32c(),
        onProgress: progress.onProgress,
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
      'preen': boolean;
      'drop-corrupt': boolean;
      'accept-loss': boolean;
      'data-crc'?: string | undefined;
      'relink': boolean;
      'undo'?: string | undefined;
    },
  ): Promise<FsckJson> {
    if (flags.interactive && this.jsonEnabled()) {
      throw new PcacheError('USAGE', '--interactive cannot be used with --json; use --repair');
    }
    if (flags.interactive && !this.input.isTTY) {
      throw new PcacheError('USAGE', '--interactive needs a terminal; use --repair without one');
    }
    const progress = this.checkProgress(cachePath);
    const release = this.onInterrupt(() => undefined);
    try {
      const { result, undoPath } = await repairDevice({
        cachePath,
        backingPath,
        undoPath: flags.undo,
        data: flags.data,
        relinkDoubtful: flags.relink,
        dataCrc: flags['data-crc'] === undefined ? undefined : flags['data-crc'] === 'on',
        ask: this.asker(consentOf(flags), flags['drop-corrupt'], flags['accept-loss']),
        onNote: (note) => this.note(note),
        onChecked: (checked) => {
          progress.stop();
          this.printFindings(checked);
        },
        onFixed: (fix) => this.print(`${fixedLine(fix)}\n`),
        onProgress: progress.onProgress,
      });
      progress.stop();
      for (const fix of result.declined) this.print(`${declinedLine(fix)}\n`);
      if (undoPath !== undefined) this.print(`${undoLine(cachePath, undoPath)}\n`);
      const changed = result.made.length > 0;
      if (changed) this.report(cachePath, result.after);
      else this.printVerdict(cachePath, result.after);
      const lost = !nothingLost(result.losses);
      if (lost) this.print(`${lossSummaryText(result.losses, formatBytes)}\n`);
      if (this.interrupted && !result.after.clean) {
        const what = changed ? 'some repairs were not made' : 'nothing was repaired';
        this.note(`${cachePath}: interrupted: ${what}; run the command again`);
      }
      const complete = result.after.clean && (!lost || flags['accept-loss']);
      this.setExitStatus(repairStatus({ complete, changed }));
      const repair = repairJson(result, undoPath);
      return { ...checkJson(cachePath, backingPath, result.before), losses: result.losses, repair };
    } finally {
      progress.stop();
      release();
    }
  }

  /** Asks about each repair unless --repair, or the answer "all", has decided already. */
  private asker(consent: Consent, dropCorrupt: boolean, acceptLoss: boolean): (fix: Fix) => Promise<Answer> {
    let all = consent === 'yes';
    return async (fix) => {
      await breathe();
      if (this.interrupted) return 'stop';
      if (fix.consent === 'drop-corrupt' && !dropCorrupt) return 'no';
      if (fix.consent === 'data-crc') return 'no';
      if (consent === 'without-loss') {
        return fix.consent === 'accept-loss' || fix.losses.some(saysAnything) ? 'no' : 'yes';
      }
      for (const line of lossLines(fix, formatBytes)) this.print(`${line}\n`);
      if (fix.consent === 'accept-loss' && !acceptLoss) return 'no';
      if (all) return 'yes';
      const choice = await askChoice(questionText(fix), this.input);
      if (choice === 'quit') return 'stop';
      if (choice === 'all') all = true;
      return choice === 'no' ? 'no' : 'yes';
    };
  }

  private takeBack(undoPath: string, cachePath: string): UndoJson {
    const { records, bytes, finished } = undoRepair(undoPath, cachePath);
    const what = finished ? 'repair' : 'interrupted repair';
    this.print(`${cachePath}: ${what} undone: ${records} changes, ${formatBytes(bytes)}\n`);
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
    this.print(
      `${examinedLine(result.examined, formatBytes)}\n${this.style.bold(verdictLine(path, result, this.kernel))}\n`,
    );
  }

  /** The finding's code in the colour of its severity. */
  private painted({ code, severity }: Finding): string {
    const { style } = this;
    if (severity === 'note') return style.dim(code);
    return severity === 'error' ? style.red(code) : style.yellow(code);
  }
}
