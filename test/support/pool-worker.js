/** What a thread of `runInThreads` may do, for its tests: told by its job. */
import { parentPort, workerData } from 'node:worker_threads';

const { does, value } = workerData;
switch (does) {
  case 'give':
    parentPort.postMessage({ kind: 'progress', done: value });
    parentPort.postMessage({ kind: 'outcome', outcome: 2 * value });
    break;
  case 'fail':
    parentPort.postMessage({ kind: 'failed', error: { code: 'BAD_TRACE', message: `${value}: damaged` } });
    break;
  case 'throw':
    throw new TypeError(value);
  case 'leave':
    break;
  case 'spin':
    // Never yields: nothing but its end can stop it.
    parentPort.postMessage({ kind: 'progress', done: value });
    for (;;);
}
