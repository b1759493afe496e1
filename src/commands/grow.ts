/** `pcache grow`: lets a cache use the whole of a device that became larger. */
import { statSync } from 'node:fs';
import { Args, Flags } from '@oclif/core';
import { keepingDigests } from '../engine/copies/backing-record.js';
import { refuseOddSize, resizeFile } from '../engine/create/file-space.js';
import { signatureNames } from '../engine/create/foreign-signatures.js';
import { growSteps, isFullyGrown, planGrowth, type GrowPlan } from '../engine/create/grow-cache.js';
import { openPmem, openPmemReader } from '../engine/device/open.js';
import type { PmemReader } from '../engine/device/pmem.js';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import { isPackFile } from '../engine/pack/pack-file.js';
import type { FindingCode } from '../fsck/catalogue.js';
import type { Finding } from '../fsck/findings.js';
import { sizeFlag } from '../output/flags.js';
import { GatedCommand } from '../output/gated-command.js';
import { fullyGrownLine, growJson, growLine, type GrowJson } from '../output/grow-report.js';
import { prose } from '../output/prose.js';

/** Segments between two turns of the event loop. */
const SEGMENTS_PER_TURN = 8;
/** What an interrupted growth, or a crash while the cache was in use, leaves. */
const ALLOWED: ReadonlySet<FindingCode> = new Set<FindingCode>([
  'CACHE_INFO_COPY_LOST',
  'CACHE_INFO_SEGMENTS_EXCEED_SUPERBLOCK',
  'CHAIN_LAST_HAS_NEXT',
  'SEGMENT_INFO_COPY_LOST',
  'LOG_END_TORN',
]);

export default class Grow extends GatedCommand {
  static override task = 'create' as const;
  static override summary = 'Let a cache use all of a device that became larger.';
  static override description = prose`Adds the segments that the device has room for behind those of the cache. What the cache holds stays where it is, dirty
data included. With --size a file is made larger first.

The cache must not be in use, and fsck must find nothing wrong with it. Space that holds a filesystem or the like is
refused unless --force is given.

An interrupted growth leaves the cache as it was, or refused by the kernel until the command is run again; it never loses
data.`;

  static override examples = [
    {
      description: 'Use the whole of a namespace that was enlarged.',
      command: '<%= config.bin %> <%= command.id %> /dev/pmem0',
    },
    {
      description: 'Make the file of a cache 2 GiB large, and use it.',
      command: '<%= config.bin %> <%= command.id %> cache.img --size 2GiB',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', required: true, description: 'cache device or image file' }),
  };

  static override flags = {
    'size': sizeFlag({ description: 'make the file this large first, such as 2GiB' }),
    'force': Flags.boolean({
      char: 'f',
      description: 'grow over a filesystem or the like in the space that is added',
      default: false,
    }),
    'dry-run': Flags.boolean({ char: 'n', description: 'show what would be done and change nothing', default: false }),
  };

  async run(): Promise<GrowJson> {
    const { args, flags } = await this.parse(Grow);
    if (isPackFile(args.cache)) throw new PcacheError('UNSUPPORTED', `${args.cache}: a packed cache; unpack it first`);
    const dryRun = flags['dry-run'];
    if (flags.size !== undefined && !dryRun) this.enlarge(args.cache, flags.size);
    const writable = dryRun ? undefined : openPmem(args.cache, { isScattered: true });
    const pmem = writable ?? openPmemReader(args.cache, { native: this.nativeEnabled });
    try {
      const plan = this.plan(pmem, dryRun ? flags.size : undefined);
      refuseForeign(pmem.path, plan, flags.force);
      const result = growJson(pmem.path, plan, dryRun);
      const isDone = isFullyGrown(plan);
      if (writable !== undefined && !isDone) {
        await this.runSteps(keepingDigests(writable, growSteps(writable, plan)), {
          label: 'growing',
          total: plan.segmentsAfter - plan.segmentsBefore,
          unit: 'count',
          noun: 'segments',
          stepsPerTurn: SEGMENTS_PER_TURN,
          whenInterrupted: `${pmem.path}: not grown; the cache is as it was`,
        });
      }
      this.print(`${isDone ? fullyGrownLine(result) : growLine(result)}\n`);
      return result;
    } finally {
      pmem.close();
    }
  }

  /** Makes the file larger, once it is known that the cache in it may grow. */
  private enlarge(path: string, sizeBytes: number): void {
    const pmem = openPmem(path);
    try {
      this.plan(pmem, sizeBytes);
    } finally {
      pmem.close();
    }
    resizeFile(path, sizeBytes);
  }

  /** @param sizeBytes size that the file is to get; undefined for the size that it has */
  private plan(pmem: PmemReader, sizeBytes: number | undefined): GrowPlan {
    if (sizeBytes !== undefined) refuseSize(pmem, sizeBytes);
    this.requireSound(pmem);
    return planGrowth(pmem, KERNEL_GEOMETRY, sizeBytes);
  }

  /** The kernel may have put data into segments that the superblock counts and cache_info does not: these must not go. */
  private requireSound(pmem: PmemReader): void {
    const { findings } = this.judge(pmem, undefined).check;
    const isWrong = ({ code, severity }: Finding): boolean =>
      code === 'CACHE_INFO_SEGMENTS_FEWER' || (severity !== 'note' && !ALLOWED.has(code));
    const wrong = findings.find(isWrong);
    if (wrong === undefined) return;
    throw new PcacheError(
      'BAD_MEDIA',
      `${pmem.path}: ${wrong.code} ${wrong.where}: ${wrong.detail}; run "pcache fsck ${pmem.path}" first`,
      { exitStatus: ExitStatus.problemsLeft },
    );
  }
}

/** @throws PcacheError USAGE for a size that the file cannot get */
function refuseSize({ path, sizeBytes: presentBytes }: PmemReader, sizeBytes: number): void {
  if (!statSync(path).isFile()) {
    throw new PcacheError('USAGE', `${path}: not a regular file; leave out --size to use all of the device`);
  }
  refuseOddSize(sizeBytes);
  if (sizeBytes < presentBytes) {
    throw new PcacheError(
      'USAGE',
      `${path}: has ${presentBytes} bytes and cannot shrink to ${sizeBytes}; give a larger --size`,
    );
  }
}

/** @throws PcacheError FOREIGN_SIGNATURE unless `force` */
function refuseForeign(path: string, { foreign, segmentsBefore }: GrowPlan, force: boolean): void {
  if (foreign.length === 0 || force) return;
  const names = signatureNames(foreign);
  const where = `in the space behind the ${segmentsBefore} segments of the cache`;
  throw new PcacheError('FOREIGN_SIGNATURE', `${path}: ${names} ${where}; give --force to overwrite it`);
}
