/**
 * The one gate before any command opens a cache: whether it is sound, whether data that is not on the backing device
 * may be lost when it is opened as it is, and what each kernel would do with it. Reads the metadata and the log; no
 * payload unless asked to. Changes nothing.
 */
import type { PmemReader } from '../engine/device/pmem.js';
import { PcacheError } from '../engine/errors.js';
import { checkCache, type CheckOptions, type CheckResult } from './check.js';
import {
  dirtyRisk,
  KERNEL_EFFECTS,
  kernelEffect,
  KERNELS,
  type KernelEffect,
  type KernelVersion,
} from './consequences.js';
import { PROBLEMS_LEFT } from './exit-status.js';
import type { Finding } from './findings.js';

export interface GateOptions extends Omit<CheckOptions, 'data'> {
  /** Also check payload against its CRC, where the cache has data_crc; false if not given. */
  readonly data?: boolean;
}

/** What a kernel would do with the cache. */
export interface KernelVerdict {
  readonly kernel: KernelVersion;
  /** The effect that comes first: a kernel that refuses a cache does nothing else to it. */
  readonly effect: KernelEffect;
  /** Findings with that effect; none when it attaches the cache and works. */
  readonly findings: readonly Finding[];
}

export interface GateVerdict {
  readonly check: CheckResult;
  /** No finding but notes. */
  readonly sound: boolean;
  /** Findings that mean data may be lost, or be read as an older version. */
  readonly losses: readonly Finding[];
  /** Findings that a crash leaves too; if one did, nothing that was acknowledged is lost. */
  readonly doubts: readonly Finding[];
  readonly kernels: Readonly<Record<KernelVersion, KernelVerdict>>;
}

/** @throws PcacheError as `checkCache` does: NOT_PCACHE, UNSUPPORTED, TRUNCATED, IO */
export function judgeCache(reader: PmemReader, { data = false, ...options }: GateOptions): GateVerdict {
  return verdictOf(checkCache(reader, { ...options, data }));
}

/** As `judgeCache`, of a check that was made. */
export function verdictOf(check: CheckResult): GateVerdict {
  const { findings, clean } = check;
  return {
    check,
    sound: clean,
    losses: findings.filter(({ code }) => dirtyRisk(code) === 'possible'),
    doubts: findings.filter(({ code }) => dirtyRisk(code) === 'doubtful'),
    kernels: Object.fromEntries(KERNELS.map((kernel) => [kernel, kernelVerdict(findings, kernel)])) as Record<
      KernelVersion,
      KernelVerdict
    >,
  };
}

/**
 * The order in which a kernel meets things decides: a superblock without a magic is formatted whatever follows; one
 * that is refused ends the attach; a cache_info that is lost empties the cache before the rest is looked at.
 */
function kernelVerdict(findings: readonly Finding[], kernel: KernelVersion): KernelVerdict {
  const withEffect = (effect: KernelEffect, isMeant: (finding: Finding) => boolean = () => true): Finding[] =>
    findings.filter((finding) => kernelEffect(finding.code, kernel) === effect && isMeant(finding));
  const isEarly = ({ code }: Finding): boolean => code.startsWith('SUPERBLOCK_') || code === 'DEVICE_TOO_SMALL';
  const stages: [KernelEffect, Finding[]][] = [
    ['empties', withEffect('empties', isEarly)],
    ['refuses', withEffect('refuses', isEarly)],
    ['empties', withEffect('empties')],
    ['refuses', withEffect('refuses')],
  ];
  for (const [effect, met] of stages) if (met.length > 0) return { kernel, effect, findings: met };
  for (const effect of [...KERNEL_EFFECTS].reverse()) {
    const met = withEffect(effect);
    if (effect !== 'attaches' && met.length > 0) return { kernel, effect, findings: met };
  }
  return { kernel, effect: 'attaches', findings: [] };
}

/** `CODE where: detail`, of the first of these findings, and how many more there are. */
function firstOf(findings: readonly Finding[]): string {
  const [{ code, where, detail }] = findings;
  const more = findings.length > 1 ? ` (and ${findings.length - 1} more)` : '';
  return `${code} ${where}: ${detail}${more}`;
}

/** One line: which data may be lost, and the command to run first. */
export function lossText(path: string, losses: readonly Finding[]): string {
  return `${path}: dirty data may be lost or old: ${firstOf(losses)}; run "pcache fsck ${path}" first`;
}

/** One line: what a kernel would do with the cache. */
export function kernelText(path: string, { kernel, effect, findings }: KernelVerdict): string {
  if (effect === 'attaches') return `${path}: Linux ${kernel} attaches it`;
  return `${path}: Linux ${kernel} ${EFFECT_TEXTS[effect]}: ${firstOf(findings)}; run "pcache fsck ${path}" first`;
}

export const EFFECT_TEXTS: Readonly<Record<Exclude<KernelEffect, 'attaches'>, string>> = {
  refuses: 'refuses to attach it',
  empties: 'would make a new cache over it, and lose all that is in it',
  cuts: 'would end the log too early, and lose what follows',
  misreads: 'would read old or foreign data',
  crashes: 'would crash on it',
};

/** @throws PcacheError BAD_MEDIA, with the status of problems left, when data may be lost */
export function refuseLosses(path: string, { losses }: GateVerdict): void {
  if (losses.length === 0) return;
  throw new PcacheError('BAD_MEDIA', `${lossText(path, losses)}, or give --accept-loss`, {
    exitStatus: PROBLEMS_LEFT,
  });
}

/** @throws PcacheError BAD_MEDIA, with the status of problems left, unless this kernel attaches the cache and loses nothing */
export function refuseKernel(path: string, verdict: GateVerdict, kernel: KernelVersion): void {
  const one = verdict.kernels[kernel];
  if (one.effect === 'attaches') return;
  throw new PcacheError('BAD_MEDIA', kernelText(path, one), { exitStatus: PROBLEMS_LEFT });
}
