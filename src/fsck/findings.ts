/**
 * Findings: bad media as values. Bounded: of each code only so many are kept, the rest are counted.
 */
import { catalogueEntry, type FindingCode, type Severity } from './catalogue.js';

/** Findings of one code that are kept. */
const KEPT_PER_CODE = 64;

export interface Finding {
  readonly code: FindingCode;
  readonly severity: Severity;
  /** The structure: `superblock`, `segment 3`, `kset 0:5144 key 7`. Segments are logical unless said otherwise. */
  readonly where: string;
  /** One clause with the values. */
  readonly detail: string;
  /** What the kernel does with a cache like this. */
  readonly kernel: string;
  readonly kernelRefuses: boolean;
  /** What puts it right, where something does. */
  readonly repair?: string;
}

export class Findings {
  readonly list: Finding[] = [];
  private readonly counts = new Map<FindingCode, number>();

  add(code: FindingCode, where: string, detail: string): void {
    const count = (this.counts.get(code) ?? 0) + 1;
    this.counts.set(code, count);
    if (count > KEPT_PER_CODE) return;
    const { severity, kernel, kernelRefuses, repair } = catalogueEntry(code);
    this.list.push({
      code,
      severity,
      where,
      detail,
      kernel,
      kernelRefuses,
      ...(repair === undefined ? {} : { repair }),
    });
  }

  /** Adds a clause to the first finding of a code, which there must be. */
  extend(code: FindingCode, clause: string): void {
    const at = this.list.findIndex((finding) => finding.code === code);
    const finding = this.list[at];
    this.list[at] = { ...finding, detail: `${finding.detail}; ${clause}` };
  }

  has(code: FindingCode): boolean {
    return this.counts.has(code);
  }

  /** Findings that were made but not kept, by code. */
  get omitted(): Partial<Record<FindingCode, number>> {
    const omitted: Partial<Record<FindingCode, number>> = {};
    for (const [code, count] of this.counts) if (count > KEPT_PER_CODE) omitted[code] = count - KEPT_PER_CODE;
    return omitted;
  }
}
