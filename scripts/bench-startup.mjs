/**
 * How long the program takes to start: medians of 20 runs of the bundled program, taken in turn with `node -e 0`, and
 * the number of files that each opens beyond those of `node -e 0` (with strace, where it is installed).
 * Usage: npm run bench:startup [-- RUNS [PROGRAM]]; PROGRAM is a script for node, or an executable.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { median } from './bench-figures.mjs';
import { root } from './package/root.mjs';

const runs = Number(process.argv[2] ?? 20);
const program = resolve(process.argv[3] ?? join(root, 'bundle', 'pcache.cjs'));
const folder = mkdtempSync(join(tmpdir(), 'pcache-startup-'));
const image = join(folder, 'small.img');
const start = /\.[cm]?js$/.test(program) ? [process.execPath, program] : [program];

function run([command, ...args], expected = [0]) {
  const startedNs = process.hrtime.bigint();
  const result = spawnSync(command, args, { encoding: 'utf8' });
  const tookMs = Number(process.hrtime.bigint() - startedNs) / 1e6;
  if (!expected.includes(result.status)) {
    throw new Error(
      `${[command, ...args].join(' ')} ended with ${result.status ?? result.error?.message}: ${result.stderr}`,
    );
  }
  return tookMs;
}

function filesOpened(command) {
  const log = join(folder, 'strace');
  const traced = spawnSync('strace', ['-f', '-qq', '-e', 'trace=open,openat', '-o', log, ...command]);
  if (traced.error !== undefined) return undefined;
  return readFileSync(log, 'utf8')
    .split('\n')
    .filter((line) => /\bopen(at)?\(/.test(line) && !line.includes('= -1')).length;
}

try {
  if (!existsSync(program)) throw new Error(`${program} is not there; run: npm run setup`);
  run([...start, 'format', image, '--size', '512MiB']);
  const measured = [
    { name: 'node -e 0', command: [process.execPath, '-e', '0'] },
    { name: 'pcache --version', command: [...start, '--version'] },
    { name: 'pcache --help', command: [...start, '--help'] },
    { name: 'pcache info', command: [...start, 'info', image] },
    { name: 'pcache fsck', command: [...start, 'fsck', image] },
  ].map((one) => ({ ...one, ms: [] }));
  for (let round = 0; round < runs; round++) for (const { command, ms } of measured) ms.push(run(command));
  const [base] = measured;
  const baseFiles = filesOpened(base.command);
  process.stdout.write(`${cpus()[0].model}, Node.js ${process.versions.node}, medians of ${runs} runs\n`);
  for (const { name, command, ms } of measured) {
    const ratio = (median(ms) / median(base.ms)).toFixed(2);
    const files =
      baseFiles === undefined ? 'files not counted: strace is missing' : `${filesOpened(command) - baseFiles} files`;
    process.stdout.write(
      `${name.padEnd(18)} ${median(ms).toFixed(1).padStart(7)} ms  ${ratio.padStart(5)} x  ${files}\n`,
    );
  }
} catch (error) {
  process.stderr.write(`bench:startup: ${error.message}\n`);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
