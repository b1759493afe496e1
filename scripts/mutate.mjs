/**
 * `node scripts/mutate.mjs [--only TEXT] [--file TEXT] [--from TEXT] [--no-baseline]`: breaks the engine in one place at a
 * time, in a copy of the tree, and runs the tests that prove it. Prints a table: mutation, red or green, and what saw it.
 * Exit status 1 if any mutation stays green, or if the tests are not green without one. All of it takes an hour; `--from`
 * goes on with the first mutation that has TEXT in its name.
 *
 * A mutation names a file, a text that must be in it exactly once, and what to put there instead.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { MUTATIONS } from './mutations.mjs';
import { root } from './setup.mjs';

const COPIED = ['src', 'test', 'package.json', 'tsconfig.json', 'tsconfig.test.json', 'vitest.config.ts'];
const LINKED = ['node_modules', 'native', 'fixtures'];
/** Quick ones first: the run stops at the first that fails. */
const STAGES = [['test/unit/engine-', 'test/property/extent-index', 'test/property/key-fields'], ['test/crash']];
/** On a busy machine a test that is slow must not pass for one that saw the mutation. */
const TEST_TIMEOUT_MS = 120_000;
const STAGE_TIMEOUT_MS = 400_000;

function copyTree() {
  const folder = mkdtempSync(join(tmpdir(), 'pcache-mutate-'));
  for (const name of COPIED) cpSync(join(root, name), join(folder, name), { recursive: true });
  for (const name of LINKED) symlinkSync(join(root, name), join(folder, name));
  return folder;
}

/** @returns the name of the first test that failed, or undefined when all passed. */
function runStage(folder, paths) {
  const vitest = join(folder, 'node_modules', 'vitest', 'vitest.mjs');
  const report = join(folder, 'report.json');
  rmSync(report, { force: true });
  const result = spawnSync(
    process.execPath,
    [
      vitest,
      'run',
      '--bail',
      '1',
      `--testTimeout=${TEST_TIMEOUT_MS}`,
      '--reporter=json',
      `--outputFile=${report}`,
      ...paths,
    ],
    {
      cwd: folder,
      encoding: 'utf8',
      timeout: STAGE_TIMEOUT_MS,
      killSignal: 'SIGKILL',
      env: { ...process.env, PCACHE_TEST_ALL: '1', PCACHE_SIM_SHRINK_MS: '0', PCACHE_SIM_SEEDS: '' },
    },
  );
  if (result.error?.code === 'ETIMEDOUT') return { test: `no end within ${STAGE_TIMEOUT_MS / 1000} s`, message: '' };
  if (result.status === 0) return undefined;
  let files;
  try {
    files = JSON.parse(readFileSync(report, 'utf8')).testResults;
  } catch {
    throw new Error(`the tests did not run: ${result.stderr.slice(-2000)}`);
  }
  for (const file of files) {
    const failed = file.assertionResults.find((test) => test.status === 'failed');
    if (failed) return { test: failed.fullName.trim(), message: firstLine(failed.failureMessages[0]) };
  }
  const broken = files.find((file) => file.status === 'failed');
  throw new Error(`a test file could not be run: ${broken?.message ?? result.stderr.slice(-2000)}`);
}

function firstLine(text = '') {
  return text
    .split('\n')[0]
    .replace(/^(AssertionError|Error): /, '')
    .slice(0, 110);
}

function runAll(folder) {
  for (const paths of STAGES) {
    const failed = runStage(folder, paths);
    if (failed) return failed;
  }
  return undefined;
}

function apply(folder, mutation) {
  const path = join(folder, mutation.file);
  const text = readFileSync(path, 'utf8');
  const found = text.split(mutation.find).length - 1;
  if (found !== 1) throw new Error(`${mutation.name}: its text is ${found} times in ${mutation.file}, not once`);
  writeFileSync(
    path,
    text.replace(mutation.find, () => mutation.put),
  );
  return () => writeFileSync(path, text);
}

const { values } = parseArgs({
  options: {
    'only': { type: 'string' },
    'file': { type: 'string' },
    'from': { type: 'string' },
    'no-baseline': { type: 'boolean' },
  },
});
const first = MUTATIONS.findIndex(({ name }) => name.includes(values.from ?? ''));
if (first < 0) throw new Error(`no mutation has '${values.from}' in its name`);
const chosen = MUTATIONS.slice(first).filter(
  ({ name, file }) => name.includes(values.only ?? '') && file.includes(values.file ?? ''),
);
const folder = copyTree();
let green = 0;
try {
  for (const mutation of MUTATIONS) apply(folder, mutation)();
  if (!values['no-baseline']) {
    const failed = runAll(folder);
    if (failed) throw new Error(`without a mutation the tests fail: ${failed.test}: ${failed.message}`);
    process.stdout.write('without a mutation: green\n');
  }
  for (const mutation of chosen) {
    const undo = apply(folder, mutation);
    const started = Date.now();
    const failed = runAll(folder);
    undo();
    if (!failed) green++;
    const verdict = failed ? `red    ${failed.test} — ${failed.message}` : 'GREEN  nothing saw it';
    process.stdout.write(`${mutation.name.padEnd(64)} ${verdict} (${Math.round((Date.now() - started) / 1000)} s)\n`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.stdout.write(`${chosen.length} mutations, ${green} not seen\n`);
process.exitCode = green > 0 ? 1 : 0;
