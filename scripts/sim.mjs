/**
 * `npm run sim -- [--seeds N] [--seed S] [--minutes M] [--jobs J]`: runs simulated lives of the engine, one
 * per seed, from seed S on (default: from the clock), until N are done (default 100) or M minutes are over.
 * Prints the first seed at once, and any failing one as a shortened test. Exit status 1 if one failed.
 */
import { fork } from 'node:child_process';
import { rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { buildSimulation } from './sim-build.mjs';
import { root } from './setup.mjs';

const PROGRESS_MS = 10_000;
/** Every processor has seeds of its own to run: threads that help to collect garbage are only in the way. */
const WORKER_FLAGS = ['--enable-source-maps', '--single-threaded-gc'];

if (process.send) await work(process.argv[2]);
else await main();

async function work(folder) {
  const { runSeed } = await import(pathToFileURL(join(folder, 'sim-seeds.js')).href);
  process.on('message', (seed) => process.send({ seed, result: runSeed(seed) }));
}

function readOptions() {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string' },
      seed: { type: 'string' },
      minutes: { type: 'string' },
      jobs: { type: 'string' },
    },
  });
  const number = (name, fallback) => {
    if (values[name] === undefined) return fallback;
    const value = Number(values[name]);
    if (!(value > 0)) throw new Error(`--${name} ${values[name]}: must be a positive number`);
    return value;
  };
  return {
    seeds: number('seeds', values.minutes === undefined ? 100 : Infinity),
    first: number('seed', 1 + (Date.now() % 1_000_000_000)),
    minutes: number('minutes', Infinity),
    jobs: number('jobs', availableParallelism()),
  };
}

async function main() {
  const options = readOptions();
  process.stdout.write(`first seed ${options.first}\n`);
  const folder = buildSimulation(root, join(root, 'node_modules', '.cache', 'pcache-sim', String(process.pid)));
  const started = Date.now();
  const total = { seeds: 0, failed: 0, crashStates: 0, drains: 0, crashes: 0, requests: 0 };
  const line = () => {
    const seconds = (Date.now() - started) / 1000;
    const rate = Math.round(total.crashStates / seconds);
    return `${total.seeds} seeds, ${total.crashStates} crash states (${rate} a second), ${total.drains} of them drained, ${total.crashes} recoveries to go on from, ${total.requests} requests, ${total.failed} failed, ${Math.round(seconds)} s\n`;
  };
  const progress = setInterval(() => process.stderr.write(line()), PROGRESS_MS);
  let next = 0;
  const isOver = () => next >= options.seeds || Date.now() - started > options.minutes * 60_000;

  const runWorker = () =>
    new Promise((resolve, reject) => {
      const worker = fork(fileURLToPath(import.meta.url), [folder], { execArgv: WORKER_FLAGS });
      const give = () => {
        if (isOver()) worker.disconnect();
        else worker.send(options.first + next++);
      };
      worker.on('error', reject);
      worker.on('exit', (status, signal) => {
        if (status === 0) resolve();
        else reject(new Error(`a process that runs seeds ended with ${signal ?? `status ${status}`}`));
      });
      worker.on('message', ({ seed, result }) => {
        total.seeds++;
        if (result.test === undefined) {
          for (const name of ['crashStates', 'drains', 'crashes', 'requests']) total[name] += result[name];
        } else {
          total.failed++;
          process.stdout.write(`seed ${seed} failed: ${result.message}\n\n${result.test}\n\n`);
        }
        give();
      });
      give();
    });
  try {
    await Promise.all(Array.from({ length: options.jobs }, runWorker));
  } finally {
    clearInterval(progress);
    rmSync(join(folder, '..', '..'), { recursive: true, force: true });
  }
  process.stdout.write(line());
  process.exitCode = total.failed > 0 ? 1 : 0;
}
