/** What the checks of packages have in common: a temporary folder, programs that must succeed, and how a check ends. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from './root.mjs';

/** An error has this much of what a program said. */
const SAID_CHARS_MAX = 4000;
const OUTPUT_BYTES_MAX = 2 ** 28;

/** Runs a program that must succeed. @returns its output as text; as bytes with `encoding: 'buffer'` */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, { encoding: 'utf8', maxBuffer: OUTPUT_BYTES_MAX, ...options });
  if (result.status !== 0) {
    const said = `${result.stdout ?? ''}${result.stderr ?? ''}`.slice(-SAID_CHARS_MAX);
    const ending = result.status ?? result.error?.message ?? result.signal;
    throw new Error(`${[command, ...args].join(' ')} ended with ${ending}: ${said}`);
  }
  return result.stdout;
}

export function expectThat(condition, message) {
  if (!condition) throw new Error(message);
}

export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** Lays a kernel-made cache of the fixtures into a folder: `NAME.pmem` and `NAME.back`. */
export function layImages(name, folder) {
  for (const end of ['pmem', 'back']) {
    const packed = join(root, 'fixtures', 'images', `${name}.${end}.gz.gz`);
    const copy = 'gzip -dc "$1" | gzip -dc | cp --sparse=always /dev/stdin "$2"';
    run('sh', ['-c', copy, 'sh', packed, join(folder, `${name}.${end}`)]);
  }
}

/** SHA-256 of the logical device of a fixture, as the kernel read it. */
export function kernelSum(name) {
  const lines = readFileSync(join(root, 'fixtures', 'images', 'expect.tsv'), 'utf8').split('\n');
  return lines.find((line) => line.startsWith(`${name}\t`)).split('\t')[3];
}

/**
 * Runs a check in a temporary folder, and ends with status 1 and one line where it fails.
 * @param name of the npm script
 * @param rootFor why it needs root; it is skipped without, and says so
 * @param body takes the folder, returns a line for success
 */
export async function check(name, { rootFor } = {}, body) {
  if (rootFor !== undefined && process.getuid() !== 0) {
    process.stdout.write(`${name}: skipped: needs root, for ${rootFor}\n`);
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), `pcache-${name.replace(':', '-')}-`));
  try {
    process.stdout.write(`${await body(folder)}\n`);
  } catch (error) {
    process.stderr.write(`${name}: ${error.message}\n`);
    process.exitCode = 1;
  } finally {
    // What is still mounted must not be emptied.
    if (readFileSync('/proc/self/mounts', 'utf8').includes(`${folder}/`)) {
      process.stderr.write(`${name}: ${folder} stays: something is mounted in it\n`);
      process.exitCode = 1;
    } else rmSync(folder, { recursive: true, force: true });
  }
}
