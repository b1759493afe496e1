/** A check's result as lines for people and as a JSON document. Pure; knows no terminal. */
import type { FindingCode } from './catalogue.js';
import type { CheckResult } from './check.js';
import { KERNEL_DEFAULT, type KernelEffect, type KernelVersion } from './consequences.js';
import type { Examined } from './examined.js';
import type { Finding } from './findings.js';
import { EFFECT_TEXTS, verdictOf } from './gate.js';

export interface CheckJson {
  readonly path: string;
  readonly backing: string | null;
  readonly clean: boolean;
  readonly findings: readonly Finding[];
  /** Findings beyond those listed, by code. */
  readonly omitted: Partial<Record<FindingCode, number>>;
  readonly examined: Examined;
  readonly notChecked: readonly string[];
  /** What each kernel does with the cache. */
  readonly kernels: Readonly<Record<KernelVersion, KernelEffect>>;
}

export function checkJson(path: string, backing: string | undefined, result: CheckResult): CheckJson {
  const kernels = Object.values(verdictOf(result).kernels).map(({ kernel, effect }) => [kernel, effect] as const);
  return { path, backing: backing ?? null, ...result, kernels: Object.fromEntries(kernels) as CheckJson['kernels'] };
}

/** `CODE severity where: detail; kernel: what it does`. One line. */
export function findingLine(finding: Finding): string {
  const kernel = finding.severity === 'note' ? '' : ` [kernel: ${finding.kernel}]`;
  return `${finding.code} ${finding.severity} ${finding.where}: ${finding.detail}${kernel}`;
}

export function omittedLines(result: CheckResult): string[] {
  return Object.entries(result.omitted).map(([code, count]) => `${code}: ${count} more like these`);
}

/** What was looked at: `31 segments, 9 ksets, 1054 keys, …`. */
export function examinedLine(examined: Examined, size: (bytes: number) => string): string {
  const parts = [
    `${examined.segments} segments`,
    `${examined.metadataCopies} copies of metadata`,
    `${examined.ksets} ksets (${size(examined.logBytes)})`,
    `${examined.keys} keys (${examined.cleanKeys} clean, ${examined.staleKeys} stale)`,
    `payload of ${examined.payloadKeys} keys (${size(examined.payloadBytes)})`,
    `${size(examined.bytesRead)} read`,
  ];
  return `examined: ${parts.join(', ')}`;
}

/** The last line: the verdict. */
export function verdictLine(path: string, result: CheckResult, kernel: KernelVersion = KERNEL_DEFAULT): string {
  const counts = { error: 0, warning: 0, note: 0 };
  for (const finding of result.findings) counts[finding.severity]++;
  const { ksets, keys } = result.examined;
  const many = (count: number, noun: string) => `${count} ${noun}${count === 1 ? '' : 's'}`;
  const notes = counts.note === 0 ? '' : `, ${many(counts.note, 'note')}`;
  if (result.clean) return `${path}: clean, ${many(ksets, 'kset')}, ${many(keys, 'key')}${notes}`;
  const more = Object.keys(result.omitted).length === 0 ? '' : ' and more';
  const found = `${many(counts.error, 'error')}, ${many(counts.warning, 'warning')}${notes}${more}`;
  const { effect } = verdictOf(result).kernels[kernel];
  if (effect === 'attaches') return `${path}: ${found}; the kernel attaches it all the same`;
  if (effect === 'refuses') return `${path}: ${found}; the kernel ${EFFECT_TEXTS[effect]}`;
  return `${path}: ${found}; DO NOT ATTACH IT: the kernel ${EFFECT_TEXTS[effect]}`;
}
