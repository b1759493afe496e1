/**
 * `npm run damage -- [--runs N] [--seconds N] [--seed S] [--image CACHE [--backing BACKING]]...`: damages caches at
 * random, checks and repairs them, and holds what they read as against the sound ones. Run number K of seed S follows
 * from S + K alone (`--seed S+K --runs 1` does it again). Prints the seed first, failures as they come, a table at the
 * end. Exit status 1 if one failed.
 *
 * `--seconds N` ends it after so long, whatever is done then.
 *
 * The caches are small ones that the engine writes, the kernel-made ones of fixtures/images (one run in `--share`,
 * default 20), and those given with --image, which then take the place of the fixtures.
 */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { buildSimulation } from './sim-build.mjs';
import { root } from './setup.mjs';

const PROGRESS_MS = 10_000;
const FAILURES_MAX = 20;
/** Small caches in use at a time, and runs after which they are others. */
const LIVES = 50;
const RUNS_PER_LIVES = 2000;
const BLOCK_BYTES = 64 * 1024;
const ZEROES = Buffer.alloc(BLOCK_BYTES);
const UNPACK_BYTES = 16 * 1024 * 1024;
const FIXTURES = ['fresh', 'dirty-crc', 'gc-wrap', 'crash'];

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '1000' },
    seconds: { type: 'string', default: 'Infinity' },
    seed: { type: 'string' },
    share: { type: 'string', default: '20' },
    image: { type: 'string', multiple: true, default: [] },
    backing: { type: 'string', multiple: true, default: [] },
  },
});
const runs = Number(values.runs);
const endsMs = Date.now() + 1000 * Number(values.seconds);
// Seeds below 130,000,000 make small damage only, without accidents.
const firstSeed = Number(values.seed ?? 130_000_000 + (Date.now() % 870_000_000));
process.stdout.write(`seed ${firstSeed}\n`);
const folder = buildSimulation(root, join(root, 'node_modules', '.cache', 'pcache-damage', String(process.pid)));
const load = (path) => import(pathToFileURL(join(folder, path)).href);
const { OUTCOMES, runDamage } = await load('damage/damage-run.js');
const { DAMAGE_KINDS } = await load('damage/random-damage.js');
const { liveSmall } = await load('damage/small-life.js');
const { makeSubject } = await load('damage/oracle.js');
const { Overlay } = await load('damage/overlay.js');
const { SparseImage } = await load('sparse-image.js');
const { KERNEL_GEOMETRY } = await import(pathToFileURL(join(folder, '../../src/engine/media/geometry.js')).href);

/** A fixture, unpacked into memory without its zeroes. */
function unpack(name) {
  const bytes = gunzipSync(gunzipSync(readFileSync(join(root, 'fixtures', 'images', `${name}.gz.gz`))), {
    chunkSize: UNPACK_BYTES,
  });
  const image = SparseImage.blank(bytes.length, name);
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
    const block = bytes.subarray(at, at + BLOCK_BYTES);
    if (!block.equals(ZEROES.subarray(0, block.length))) image.write(at, block);
  }
  return image;
}

function kernelSubject(name, cache, backing) {
  const shape = { geometry: KERNEL_GEOMETRY, backingBytes: backing.sizeBytes };
  return makeSubject(name, new Overlay(cache), backing, shape);
}

const kernelMade =
  values.image.length > 0
    ? values.image.map((path, n) => () => {
        const backing = values.backing[n] ?? path.replace(/\.pmem$/, '.back');
        return kernelSubject(path, SparseImage.fromFile(path), SparseImage.fromFile(backing));
      })
    : FIXTURES.map((name) => () => kernelSubject(name, unpack(`${name}.pmem`), unpack(`${name}.back`)));

const subjects = new Map();
function subjectOf(key, make) {
  let subject = subjects.get(key);
  if (subject === undefined) subjects.set(key, (subject = make()));
  return subject;
}

/** Which cache a run damages: it follows from its seed alone. */
function choose(seed) {
  if (seed % Number(values.share) === 0) {
    const n = Math.floor(seed / Number(values.share)) % kernelMade.length;
    return subjectOf(`kernel ${n}`, kernelMade[n]);
  }
  const life = Math.floor(seed / RUNS_PER_LIVES) * LIVES + (seed % LIVES);
  const key = `life ${life}`;
  if (!subjects.has(key) && subjects.size > 2 * LIVES) {
    for (const old of subjects.keys()) if (old.startsWith('life')) subjects.delete(old);
  }
  return subjectOf(key, () => liveSmall(life));
}

const counts = new Map();
const found = new Map();
const left = new Map();
const count = (map, key, by = 1) => map.set(key, (map.get(key) ?? 0) + by);
const started = Date.now();
let failures = 0;
let slowest = { ms: 0, seed: 0 };
let told = started;
let done = 0;
for (; done < runs && failures < FAILURES_MAX && Date.now() < endsMs; done++) {
  const seed = firstSeed + done;
  const subject = choose(seed);
  const began = Date.now();
  const run = await runDamage(subject, seed);
  const ms = Date.now() - began;
  if (ms > slowest.ms) slowest = { ms, seed };
  const kind = run.kinds.length === 1 ? run.kinds[0] : 'several';
  count(counts, `${kind}/${run.failure === '' ? run.outcome : 'failed'}`);
  for (const code of run.found) count(found, code);
  if (run.outcome === 'declined') count(left, run.left.join(' '));
  if (run.failure !== '') {
    failures++;
    process.stdout.write(
      `seed ${seed} on ${subject.name} (${run.kinds.join(', ')}): ${run.outcome}: ${run.failure}\n  found ${run.found.join(' ')}\n`,
    );
  }
  if (Date.now() - told > PROGRESS_MS) {
    told = Date.now();
    process.stderr.write(`${done + 1} runs, ${failures} failed, ${Math.round((told - started) / 1000)} s\n`);
  }
}
rmSync(join(folder, '..', '..'), { recursive: true, force: true });

const columns = [...OUTCOMES, 'failed'];
const row = (name, cells) => `${name.padEnd(12)}${cells.map((cell) => String(cell).padStart(11)).join('')}\n`;
process.stdout.write(`\n${row('damage', columns)}`);
const total = columns.map(() => 0);
for (const kind of [...DAMAGE_KINDS, 'several']) {
  const cells = columns.map((column) => counts.get(`${kind}/${column}`) ?? 0);
  cells.forEach((cell, n) => (total[n] += cell));
  process.stdout.write(row(kind, cells));
}
process.stdout.write(row('all', total));
const most = (map) => [...map].sort((a, b) => b[1] - a[1]).map(([name, n]) => `${n} ${name}`);
process.stdout.write(`\nfindings: ${most(found).join(', ')}\n`);
process.stdout.write(`declined: ${most(left).join('; ') || 'nothing'}\n`);
const seconds = (Date.now() - started) / 1000;
process.stdout.write(
  `${done} runs, ${failures} failed, ${seconds.toFixed(0)} s; the longest took ${slowest.ms} ms (seed ${slowest.seed})\n`,
);
process.exitCode = failures > 0 ? 1 : 0;
