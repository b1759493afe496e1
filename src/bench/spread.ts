/** Medians and spreads of what was measured in rounds. */

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** @param sorted ascending and not empty. */
export function percentileOf(sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

export function medianOf(values: readonly number[]): number {
  return percentileOf(
    [...values].sort((a, b) => a - b),
    0.5,
  );
}

export function spreadOf(values: readonly number[]): Spread {
  return { median: medianOf(values), min: Math.min(...values), max: Math.max(...values) };
}
