/** What a worker thread of a curve runs: the one job that it was started with. */
import { parentPort, workerData } from 'node:worker_threads';
import { assert, noteOf } from '../engine/errors.js';
import { runJob, type CurveJob } from './jobs.js';
import type { WorkerMessage } from './pool.js';

/** Between two messages about progress. */
const PROGRESS_MS = 50;

const port = parentPort;
assert(port !== null, 'a worker was started as a program');
const tell = (message: WorkerMessage) => port.postMessage(message);

let toldMs = performance.now();
try {
  const outcome = await runJob(workerData as CurveJob, (requests) => {
    const nowMs = performance.now();
    if (nowMs - toldMs < PROGRESS_MS) return;
    toldMs = nowMs;
    tell({ kind: 'progress', done: requests });
  });
  tell({ kind: 'outcome', outcome });
} catch (error) {
  tell({ kind: 'failed', error: noteOf(error) });
}
