/**
 * npm run bench:nbd [-- --seconds N --rounds N --only TEXT --data-crc]: fio over NBD against `pcache attach`, and against
 * `nbdkit file` and `nbdkit memory` serving as much in the same memory filesystem. All take turns within one run. Printed
 * are the medians of throughput and of the server's processor time, and the ratio of turns next to one another as median
 * (min-max): above 1 pcache is the better one. Before that, random writes to servers that have just been started, second
 * by second. Needs fio and nbdkit.
 */
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median, spread } from './bench-figures.mjs';

const { values } = parseArgs({
  options: {
    'seconds': { type: 'string', default: '5' },
    'rounds': { type: 'string', default: '3' },
    'only': { type: 'string', default: '' },
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
/** A server that has just been started is watched for so long, and its first seconds are shown. */
const FRESH_SECONDS = 15;
const FIRST_SECONDS = 5;
const PATTERNS = [
  { name: 'sequential write 1 MiB, depth 8', pattern: 'write', blockSize: '1m', depth: 8 },
  { name: 'sequential read 1 MiB, depth 8', pattern: 'read', blockSize: '1m', depth: 8 },
  { name: 'random write 4 KiB, depth 32', pattern: 'randwrite', blockSize: '4k', depth: 32 },
  { name: 'random read 4 KiB, depth 32', pattern: 'randread', blockSize: '4k', depth: 32 },
  { name: 'random write 4 KiB, depth 1', pattern: 'randwrite', blockSize: '4k', depth: 1 },
  { name: 'random read 4 KiB, depth 1', pattern: 'randread', blockSize: '4k', depth: 1 },
].filter(({ name }) => name.includes(values.only));
const STARTS = { pcache: startPcache, file: () => startNbdkit('file'), memory: () => startNbdkit('memory') };
/** Processor time is counted in these. */
const TICK_MS = 1000 / Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

const folder = mkdtempSync('/dev/shm/pcache-bench-');
const children = new Set();
let started = 0;
try {
  if ('first seconds'.includes(values.only)) await firstSeconds();
  if (PATTERNS.length > 0) await steady();
} finally {
  await Promise.all([...children].map((child) => stop({ child })));
  rmSync(folder, { recursive: true, force: true });
}

/** Each server anew for each round: its files are as they were made, its code has not run yet. */
async function firstSeconds() {
  const shares = { pcache: [], file: [] };
  console.log(`Random write 4 KiB, depth 32, thousand a second, from the start of the server on`);
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const name of Object.keys(shares)) {
      const server = await STARTS[name]();
      const perSecond = run(server, { pattern: 'randwrite', blockSize: '4k', depth: 32 }, [
        '--time_based',
        `--runtime=${FRESH_SECONDS}`,
        `--write_iops_log=${join(folder, 'log')}`,
        '--log_avg_msec=1000',
      ]).perSecond;
      await stop(server);
      const rest = median(perSecond.slice(FIRST_SECONDS, FRESH_SECONDS - 1));
      shares[name].push(perSecond[0] / rest);
      const first = perSecond.slice(0, FIRST_SECONDS).map((iops) => thousands(iops));
      console.log(`  ${label(name)}${first.join('')}   then ${thousands(rest)}`);
    }
  }
  for (const [name, of] of Object.entries(shares)) console.log(`  ${label(name)}first second / rest  ${spread(of)}`);
}

async function steady() {
  const servers = {};
  for (const [name, begin] of Object.entries(STARTS)) servers[name] = await begin();
  // All of the cache, so that no page of any server is touched for the first time while it counts.
  const fill = { pattern: 'write', blockSize: '128k', depth: 32 };
  for (const server of Object.values(servers)) run(server, fill, [`--loops=${FILL_LOOPS}`]);
  for (const job of PATTERNS) {
    const results = Object.fromEntries(Object.keys(servers).map((name) => [name, []]));
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const [name, server] of Object.entries(servers)) {
        results[name].push(run(server, job, ['--time_based', `--runtime=${values.seconds}`]));
      }
    }
    print(job, results);
  }
}

function print({ name, blockSize }, results) {
  const isLarge = blockSize === '1m';
  console.log(`\n${name}`);
  for (const [server, of] of Object.entries(results)) {
    const rate = median(of.map(({ iops }) => iops));
    const cost = median(of.map(({ costUs }) => costUs));
    const speed = isLarge ? `${rate.toFixed(0).padStart(8)} MiB/s` : `${rate.toFixed(0).padStart(8)}/s    `;
    const line = `  ${label(server)}${speed} ${cost.toFixed(1).padStart(8)} µs of processor time each`;
    if (server === 'pcache') {
      console.log(line);
      continue;
    }
    const speeds = spread(results.pcache.map(({ iops }, round) => iops / of[round].iops));
    const costs = spread(results.pcache.map(({ costUs }, round) => of[round].costUs / costUs));
    console.log(`${line}   pcache beside it: speed ${speeds}, processor time ${costs}`);
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
  const id = started++;
  const cache = join(folder, `cache${id}`);
  const backing = sparse(`backing${id}`, BACKING_BYTES);
  const format = ['format', cache, '--size', '1GiB', ...(values['data-crc'] ? ['--data-crc'] : [])];
  execFileSync(process.execPath, [PCACHE, ...format]);
  const socket = join(folder, `socket${id}`);
  const args = [PCACHE, 'attach', cache, backing, '--socket', socket];
  return await start(socket, process.execPath, args, [cache, backing]);
}

async function startNbdkit(plugin) {
  const id = started++;
  const socket = join(folder, `socket${id}`);
  const files = plugin === 'file' ? [sparse(`plain${id}`, BACKING_BYTES)] : [];
  const argument = plugin === 'file' ? files[0] : String(BACKING_BYTES);
  return await start(socket, 'nbdkit', ['-f', '-U', socket, plugin, argument], files);
}

async function start(socket, program, args, files) {
  const child = spawn(program, args, { stdio: 'ignore' });
  children.add(child);
  const failed = new Promise((_, reject) => child.on('error', reject));
  for (let waitedMs = 0; !existsSync(socket); waitedMs += 50) {
    if (child.exitCode !== null || waitedMs > START_MAX_MS) throw new Error(`${program} does not serve`);
    await Promise.race([sleep(50), failed]);
  }
  return { child, uri: `nbd+unix:///?socket=${socket}`, files };
}

async function stop({ child, files = [] }) {
  children.delete(child);
  const ended = new Promise((resolve) => child.on('exit', resolve));
  child.kill('SIGTERM');
  if (child.exitCode === null) await ended;
  for (const file of files) rmSync(file);
}

/** Processor time of all threads of a server so far. */
function usedMs({ child }) {
  const fields = readFileSync(`/proc/${child.pid}/stat`, 'latin1')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

/** @returns requests a second, the server's processor time for one, and with a log the requests of each second */
function run(server, { pattern, blockSize, depth }, more) {
  const before = usedMs(server);
  const job = ['--name=bench', '--ioengine=nbd', `--uri=${server.uri}`, `--rw=${pattern}`, `--bs=${blockSize}`];
  const args = [
    ...job,
    `--iodepth=${depth}`,
    `--size=${WORKING_SET}`,
    '--randrepeat=0',
    '--output-format=json',
    ...more,
  ];
  const text = execFileSync('fio', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  const [{ read, write }] = JSON.parse(text.slice(text.indexOf('{'))).jobs;
  const costUs = ((usedMs(server) - before) * 1000) / (read.total_ios + write.total_ios);
  const log = join(folder, 'log_iops.1.log');
  const perSecond = existsSync(log)
    ? readFileSync(log, 'latin1')
        .trim()
        .split('\n')
        .map((line) => Number(line.split(',')[1]))
    : [];
  rmSync(log, { force: true });
  return { iops: read.iops + write.iops, costUs, perSecond };
}

function label(server) {
  return (server === 'pcache' ? server : `nbdkit ${server}`).padEnd(14);
}

function thousands(iops) {
  return (iops / 1000).toFixed(1).padStart(7);
}
