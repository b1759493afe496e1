/**
 * `npm run fuzz:traces -- [--from N] [--to N] [--seed S] [--minutes M]`: reads the damaged traces FROM to TO of a seed
 * (0 to 10,000 of seed 1), as test/unit/trace-fuzz.test.ts does, in one process without a test runner, and ends after M
 * minutes if there are more. Prints failures as they come, with the input, and how far it is every ten seconds. An input
 * that hangs ends the run. Exit status 1 if one failed.
 */
import { rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { buildSources } from './sim-build.mjs';
import { root } from './setup.mjs';

const PROGRESS_MS = 10_000;
/** A simulation takes longer than reading a hundred inputs. */
const SIMULATED_EVERY = 256;
/** An input that takes so long while this process computes hangs. */
const HANG_CPU_MS = 60_000;

if (isMainThread) await main();
else watch(workerData);

/** Ends the process with a message when `heartbeat[0]`, the number of the input, stays the same for too long. */
function watch(heartbeat) {
  let [number, sinceMs] = [-1, 0];
  setInterval(() => {
    const { user, system } = process.cpuUsage();
    const nowMs = (user + system) / 1000;
    const at = Atomics.load(heartbeat, 0);
    if (at !== number) [number, sinceMs] = [at, nowMs];
    if (nowMs - sinceMs < HANG_CPU_MS) return;
    writeSync(1, `input ${number} hangs; the run ends\n`);
    process.kill(process.pid, 'SIGKILL');
  }, 1000);
}

async function main() {
  const { values } = parseArgs({
    options: {
      from: { type: 'string', default: '0' },
      to: { type: 'string', default: '10000' },
      seed: { type: 'string', default: '1' },
      minutes: { type: 'string', default: 'Infinity' },
    },
  });
  const numbers = Object.entries(values).map(([name, value]) => [name, Number(value)]);
  for (const [name, number] of numbers) {
    if (!(number >= 0)) throw new Error(`--${name} ${values[name]}: must be a number from 0 on`);
  }
  const { from, to, seed, minutes } = Object.fromEntries(numbers);

  const folder = buildSources(root, join(root, 'node_modules', '.cache', 'pcache-trace-fuzz', String(process.pid)), [
    ...['src/layout', 'src/engine', 'src/trace', 'src/replay', 'src/simulate', 'src/report-model', 'test/support'],
  ]);
  const heartbeat = new Int32Array(new SharedArrayBuffer(4));
  new Worker(new URL(import.meta.url), { workerData: heartbeat }).unref();
  try {
    const { fuzzTraces } = await import(pathToFileURL(join(folder, 'test', 'support', 'trace-fuzz-run.js')).href);
    const startedMs = performance.now();
    let saidMs = startedMs;
    const line = (done, failed) => {
      const seconds = (performance.now() - startedMs) / 1000;
      return `${done} inputs from ${from} on, seed ${seed}: ${failed} failed, ${(done / seconds).toFixed(0)} a second\n`;
    };
    let failed = 0;
    const tally = await fuzzTraces({
      seed,
      from,
      to,
      simulatedEvery: SIMULATED_EVERY,
      onInput: (n) => Atomics.store(heartbeat, 0, n),
      onFailure: (message) => {
        failed++;
        process.stdout.write(`${message}\n`);
      },
      isOver: (done) => {
        const now = performance.now();
        if (now - saidMs >= PROGRESS_MS) {
          saidMs = now;
          process.stdout.write(line(done, failed));
        }
        return now - startedMs >= minutes * 60_000;
      },
    });
    const { formats, ...counts } = tally;
    process.stdout.write(`${line(tally.done, failed)}${JSON.stringify({ ...counts, kinds: formats.size })}\n`);
    process.exitCode = failed > 0 ? 1 : 0;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
