/** `pcache move`: a cache onto another device. */
import { Args, Flags } from '@oclif/core';
import { planJob, runJob, type FormatJob } from '../engine/create/format-target.js';
import { wipeSteps, wipeTotals } from '../engine/create/wipe-cache.js';
import { sameDevice } from '../engine/device/lock.js';
import { bestCrc32c } from '../engine/device/native.js';
import { openPmem, openPmemReader } from '../engine/device/open.js';
import type { Pmem, PmemReader } from '../engine/device/pmem.js';
import { TolerantReader } from '../engine/device/tolerant-reader.js';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { loadCacheOrThrow } from '../engine/index.js';
import { CACHE_MODES } from '../engine/media/codecs.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import { isPackFile } from '../engine/pack/pack-file.js';
import type { FindingCode } from '../fsck/catalogue.js';
import { sizeFlag } from '../output/flags.js';
import { GatedCommand } from '../output/gated-command.js';
import { moveJson, moveText, type MoveJson } from '../output/move-report.js';
import { prose } from '../output/prose.js';
import { wipeStepsOptions } from '../output/wipe-report.js';
import { moveSteps, planMove, refuseTooMuch, type MovePlan, type MoveSource } from '../rescue/move-cache.js';

/** What a crash while the cache was in use leaves, and what is no fault; none of it is moved. */
const ALLOWED: ReadonlySet<FindingCode> = new Set<FindingCode>([
  'CACHE_INFO_COPY_LOST',
  'CACHE_MODE_NOT_WRITEBACK',
  'SEGMENT_INFO_COPY_LOST',
  'LOG_END_TORN',
]);

export default class Move extends GatedCommand {
  static override task = 'create' as const;
  static override summary = 'Move a cache onto another device.';
  static override description = prose`Makes a cache on NEW that reads as the one on OLD does: the newest version of each range, dirty or not, with the settings
of OLD. NEW may be larger or smaller, as long as the data fits; --dirty-only leaves out what the backing device holds too.

OLD must not be in use, and fsck must find nothing wrong with it, its payload included. It is only read. NEW is written
first, made durable and compared with OLD; its superblock is written last, so an interrupted move leaves no cache on NEW.

OLD still holds its cache afterwards. It must never be attached again, since its dirty data would be written over newer
data; --wipe-old retires it when NEW is complete.`;

  static override examples = [
    {
      description: 'Move a cache to another namespace, and retire the old one.',
      command: '<%= config.bin %> <%= command.id %> /dev/pmem0 /dev/pmem1 --wipe-old',
    },
    {
      description: 'Move what is not written back into a smaller file.',
      command: '<%= config.bin %> <%= command.id %> cache.img small.img --size 512MiB --dirty-only',
    },
  ];

  static override args = {
    old: Args.string({ name: 'OLD', required: true, description: 'cache device or image file to move from' }),
    new: Args.string({
      name: 'NEW',
      required: true,
      description: 'file, block device or DAX device to move to; with --size a file is created',
    }),
  };

  static override flags = {
    'size': sizeFlag({ description: 'create the file NEW with this size, such as 1GiB (at least 512MiB)' }),
    'preallocate': Flags.boolean({
      description: 'reserve the space of a file (--no-preallocate: leave it sparse)',
      allowNo: true,
    }),
    'dirty-only': Flags.boolean({
      description: 'leave out data that the backing device holds too',
      default: false,
    }),
    'wipe-old': Flags.boolean({
      description: 'retire OLD when NEW is complete, as "pcache wipe" does',
      default: false,
    }),
    'force': Flags.boolean({
      char: 'f',
      description: 'overwrite what NEW holds; with --size, resize an existing file',
      default: false,
    }),
    'dry-run': Flags.boolean({ char: 'n', description: 'show what would be done and change nothing', default: false }),
  };

  async run(): Promise<MoveJson> {
    const { args, flags } = await this.parse(Move);
    const dryRun = flags['dry-run'];
    const [path, target] = [args.old, args.new];
    if (isPackFile(path)) throw new PcacheError('UNSUPPORTED', `${path}: a packed cache; unpack it first`);
    if (sameDevice(path, target)) throw new PcacheError('USAGE', `${target}: is ${path} itself; give another device`);
    const writable = flags['wipe-old'] && !dryRun ? openPmem(path) : undefined;
    const pmem = writable ?? openPmemReader(path, { native: this.nativeEnabled });
    try {
      const source = this.load(pmem, flags['dirty-only']);
      const { dataCrc, gcPercent, modeNumber } = source.cache.metadata.flags;
      const mode = CACHE_MODES[modeNumber];
      const { size: sizeBytes, preallocate, force } = flags;
      const job = planJob({ path: target, sizeBytes, preallocate, force, dataCrc, gcPercent, mode });
      const plan = planMove(source, KERNEL_GEOMETRY);
      refuseTooMuch(source, plan, { path: target, format: job.plan });
      if (!dryRun) await this.move(source, plan, { target, job, force });
      if (writable !== undefined) await this.wipe(writable);
      const outcome = { path, target, dryRun, overwrites: job.overwrites, oldWiped: writable !== undefined };
      const result = moveJson(outcome, plan, job.plan);
      this.print(moveText(result));
      return result;
    } finally {
      pmem.close();
    }
  }

  /** @throws PcacheError BAD_MEDIA for a cache in which fsck finds something */
  private load(pmem: PmemReader, dirtyOnly: boolean): MoveSource {
    const { check, losses, doubts } = this.judge(pmem, undefined, true);
    const wrong = losses[0] ?? check.findings.find(({ severity, code }) => severity !== 'note' && !ALLOWED.has(code));
    if (wrong !== undefined) {
      throw new PcacheError(
        'BAD_MEDIA',
        `${pmem.path}: ${wrong.code} ${wrong.where}: ${wrong.detail}; run "pcache fsck ${pmem.path}" first`,
        { exitStatus: ExitStatus.problemsLeft },
      );
    }
    this.noteGate(pmem.path, { losses: [], doubts });
    const crc = bestCrc32c();
    const cache = loadCacheOrThrow(new TolerantReader(pmem), {
      geometry: KERNEL_GEOMETRY,
      backingBytes: Infinity,
      checkPayload: false,
      crc,
    });
    return { pmem, cache, dirtyOnly, crc };
  }

  private async move(
    source: MoveSource,
    plan: MovePlan,
    { target, job, force }: { target: string; job: FormatJob; force: boolean },
  ): Promise<void> {
    const steps = runJob(target, job, force, (pmem, format, wipe) => moveSteps(source, plan, pmem, format, wipe));
    await this.runSteps(steps, {
      label: 'moving',
      total: 2 * (plan.cleanBytes + plan.dirtyBytes),
      unit: 'bytes',
      stepsPerTurn: 1,
      whenInterrupted: `${target}: not moved; ${source.pmem.path} is as it was`,
    });
  }

  private async wipe(pmem: Pmem): Promise<void> {
    const totals = wipeTotals(pmem, KERNEL_GEOMETRY);
    const left = 'moved, and not wiped completely, but its superblock is gone; run "pcache wipe --force" to finish';
    await this.runSteps(wipeSteps(pmem, KERNEL_GEOMETRY, totals), wipeStepsOptions(totals, `${pmem.path}: ${left}`));
  }
}
