/** The judgement of `npm run bench:check`; the measurements are `pcache bench`, tested by themselves. */
import { describe, expect, it } from 'vitest';

interface Row {
  readonly name: string;
  readonly ratio: number;
}
const load = (name: string) => import(new URL(`../../scripts/${name}.mjs`, import.meta.url).href) as Promise<unknown>;
const { checkReferences } = (await load('bench-check')) as {
  checkReferences: (
    references: readonly Row[],
    measure: (row: Row) => number,
    report: (line: string) => void,
  ) => boolean;
};
const { REFERENCES } = (await load('bench-references')) as { REFERENCES: readonly Row[] };

function check(reference: number, ...measured: number[]) {
  const lines: string[] = [];
  let runs = 0;
  const passed = checkReferences(
    [{ name: 'row', ratio: reference }],
    () => measured[runs++],
    (line) => lines.push(line),
  );
  return { passed, runs, line: lines.join('\n') };
}

describe('bench:check', () => {
  it('measures once what is as it was, and takes noise for noise', () => {
    expect(check(0.9, 0.92)).toEqual({ passed: true, runs: 1, line: 'ok     row: 0.92; at least 0.54' });
    expect(check(0.9, 0.55).passed).toBe(true);
  });

  it('measures again what is too low, and the best counts', () => {
    expect(check(0.9, 0.3, 0.4, 0.8)).toEqual({
      passed: true,
      runs: 3,
      line: 'ok     row: 0.30, 0.40, 0.80; at least 0.54',
    });
  });

  it('fails what stays too low: a halving, always', () => {
    expect(check(0.9, 0.45, 0.46, 0.5)).toEqual({
      passed: false,
      runs: 3,
      line: 'FAILED row: 0.45, 0.46, 0.50; at least 0.54',
    });
  });

  it('a ratio that is none fails', () => {
    expect(check(0.9, NaN, NaN, NaN).passed).toBe(false);
  });

  it('one row that fails fails all, and the others are measured', () => {
    const rows = [1, 0.1, 1].map((ratio, n) => ({ name: String(n), ratio }));
    const lines: string[] = [];
    expect(
      checkReferences(
        rows,
        (row) => (row.name === '0' ? 0.5 : 1),
        (line) => lines.push(line),
      ),
    ).toBe(false);
    expect(lines).toHaveLength(3);
  });

  it('has references that a machine can reach', () => {
    expect(REFERENCES.length).toBeGreaterThan(5);
    for (const { ratio } of REFERENCES) expect(ratio > 0.1 && ratio < 2).toBe(true);
  });
});
