/**
 * npm run bench:nbd [-- --seconds N --rounds N --data-crc]: fio over NBD, 4 KiB at depth 32, random writes and
 * random read hits, against `pcache attach` and against `nbdkit file` serving a file in the same memory filesystem.
 * The two take turns within one run; printed are the medians, and the ratio of turns next to one another as
 * median (min-max). Needs fio and nbdkit.
 */
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    'seconds': { type: 'string', default: '5' },
    'rounds': { type: 'string', default: '3' },
    'data-crc': { type: 'boolean', default: false },
  },
});
const PCACHE = fileURLToPath(new URL('../bin/run.js', import.meta.url));
const BACKING_BYTES = 1 << 30;
/** All of it fits into the cache, so that every read is a hit. */
const WORKING_SET = '256M';
/** More of them than the cache holds. */
const FILL_LOOPS = 5;
const START_MAX_MS = 20_000;

const folder = mkdtempSync('/dev/shm/pcache-bench-');
const children = [];
try {
  await main();
} finally {
  for (const child of children) child.kill('SIGTERM');
  await Promise.all(children.map((child) => child.exitCode ?? new Promise((resolve) => child.on('exit', resolve))));
  rmSync(folder, { recursive: true, force: true });
}

async function main() {
  const servers = { pcache: await startPcache(), nbdkit: await startNbdkit() };
  // All of the cache, so that no page of either file is touched for the first time while it counts.
  for (const uri of Object.values(servers)) fio(uri, 'write', '128k', [`--loops=${FILL_LOOPS}`]);
  const timed = ['--time_based', `--runtime=${values.seconds}`];
  for (const pattern of ['randwrite', 'randread']) {
    const results = { pcache: [], nbdkit: [] };
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const [name, uri] of Object.entries(servers)) results[name].push(fio(uri, pattern, '4k', timed));
    }
    const [ours, theirs] = [median(results.pcache), median(results.nbdkit)];
    const ratios = results.pcache.map((iops, round) => iops / results.nbdkit[round]);
    const spread = `${Math.min(...ratios).toFixed(2)}-${Math.max(...ratios).toFixed(2)}`;
    const count = (iops) => Math.round(iops).toLocaleString('en-US').padStart(9);
    const label = pattern === 'randread' ? 'random read hit' : 'random write   ';
    const ratio = `${median(ratios).toFixed(2)} (${spread})`;
    console.log(`${label}  pcache ${count(ours)}/s  nbdkit ${count(theirs)}/s  ratio ${ratio}`);
  }
}

function sparse(name, bytes) {
  const path = join(folder, name);
  const fd = openSync(path, 'w');
  ftruncateSync(fd, bytes);
  closeSync(fd);
  return path;
}

async function startPcache() {
  const cache = join(folder, 'cache');
  const format = ['format', cache, '--size', '1GiB', ...(values['data-crc'] ? ['--data-crc'] : [])];
  execFileSync(process.execPath, [PCACHE, ...format]);
  const socket = join(folder, 'pcache.sock');
  return start(socket, process.execPath, [
    PCACHE,
    'attach',
    cache,
    sparse('backing', BACKING_BYTES),
    '--socket',
    socket,
  ]);
}

async function startNbdkit() {
  const socket = join(folder, 'nbdkit.sock');
  return start(socket, 'nbdkit', ['-f', '-U', socket, 'file', sparse('plain', BACKING_BYTES)]);
}

async function start(socket, program, args) {
  const child = spawn(program, args, { stdio: 'ignore' });
  children.push(child);
  const failed = new Promise((_, reject) => child.on('error', reject));
  for (let waitedMs = 0; !existsSync(socket); waitedMs += 50) {
    if (child.exitCode !== null || waitedMs > START_MAX_MS) throw new Error(`${program} does not serve`);
    await Promise.race([sleep(50), failed]);
  }
  return `nbd+unix:///?socket=${socket}`;
}

/** @returns requests per second */
function fio(uri, pattern, blockSize, more) {
  const job = ['--name=bench', '--ioengine=nbd', `--uri=${uri}`, `--rw=${pattern}`, `--bs=${blockSize}`];
  const args = [...job, '--iodepth=32', `--size=${WORKING_SET}`, '--randrepeat=0', '--output-format=json', ...more];
  const text = execFileSync('fio', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  const [result] = JSON.parse(text.slice(text.indexOf('{'))).jobs;
  return result.read.iops + result.write.iops;
}

function median(numbers) {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
}
