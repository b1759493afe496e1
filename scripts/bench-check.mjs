/**
 * npm run bench:check: is the engine still as fast, beside what memory itself allows? Runs `pcache bench` shortly for
 * each row of `bench-references.mjs` and compares the median of its ratio with the reference. A row fails when it is
 * below 0.6 of it, which a halving is and noise is not; one that is measured too low is measured again, three times
 * in all, and the best counts, so that a busy machine does not fail it. Status 1 when a row fails.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { REFERENCES } from './bench-references.mjs';

const PCACHE = fileURLToPath(new URL('../bin/run.js', import.meta.url));
const PASSES_AT = 0.6;
const TRIES_MAX = 3;
const TIMEOUT_MS = 120_000;

/**
 * @param references rows of `bench-references.mjs`
 * @param measure gives the ratio of a row
 * @param report takes a line for each row
 * @returns whether all rows passed
 */
export function checkReferences(references, measure, report) {
  let passed = true;
  for (const row of references) {
    const least = row.ratio * PASSES_AT;
    const ratios = [];
    while (ratios.length < TRIES_MAX && !(Math.max(...ratios) >= least)) ratios.push(measure(row));
    const ok = Math.max(...ratios) >= least;
    const measured = ratios.map((ratio) => ratio.toFixed(2)).join(', ');
    report(`${ok ? 'ok    ' : 'FAILED'} ${row.name}: ${measured}; at least ${least.toFixed(2)}`);
    passed &&= ok;
  }
  return passed;
}

/** The median of a row's ratio over the rounds of one run. */
function measureRow({ command, args }) {
  const length = command === undefined ? ['--seconds', '1'] : ['--rounds', '15'];
  const run = [
    'bench',
    ...(command === undefined ? [] : [command]),
    ...args,
    ...length,
    '--cache-size',
    '1GiB',
    '--json',
  ];
  const output = execFileSync(process.execPath, [PCACHE, ...run], { encoding: 'utf8', timeout: TIMEOUT_MS });
  return JSON.parse(output).ratio.median;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.exitCode = checkReferences(REFERENCES, measureRow, (line) => console.log(line)) ? 0 : 1;
}
