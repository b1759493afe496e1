/**
 * The order in which vitest begins the test files: long ones first, so that none is left running alone at the end; and
 * those that start virtual machines one after another, since only one machine runs at a time (`kernel.ts`), and a file
 * that waits for another's machine keeps a worker idle.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { makeFreshBundle } from './fresh-bundle.js';
import { TEST_SECONDS } from './test-seconds.js';

const OTHER_SECONDS = 4;
/** In these folders are the tests that run no command line. */
const WITHOUT_PROGRAM = /\/test\/(unit|property|crash)\//;

export interface TestFile {
  readonly path: string;
  readonly seconds: number;
  /** Whether it starts virtual machines. */
  readonly startsMachine: boolean;
}

/** @returns the files in the order in which `workers` processes are to begin them */
export function planned<File extends TestFile>(files: readonly File[], workers: number): File[] {
  const waiting = [...files].sort((a, b) => b.seconds - a.seconds || (a.path < b.path ? -1 : 1));
  const order: File[] = [];
  const freeAt = new Float64Array(Math.max(1, workers));
  let machineFreeAt = 0;
  while (waiting.length > 0) {
    const now = Math.min(...freeAt);
    const isMachineFree = machineFreeAt <= now;
    const wanted = waiting.findIndex(({ startsMachine }) => startsMachine === isMachineFree);
    const [file] = waiting.splice(Math.max(0, wanted), 1);
    order.push(file);
    const begin = file.startsMachine ? Math.max(now, machineFreeAt) : now;
    freeAt[freeAt.indexOf(now)] = begin + file.seconds;
    if (file.startsMachine) machineFreeAt = begin + file.seconds;
  }
  return order;
}

export default class RunOrder extends BaseSequencer {
  override sort(specifications: TestSpecification[]): Promise<TestSpecification[]> {
    const files = specifications.map((specification) => {
      const path = specification.moduleId;
      const name = path.slice(path.lastIndexOf('/test/') + '/test/'.length);
      const startsMachine = readFileSync(path, 'utf8').includes('describeWithKernel');
      return { path, seconds: TEST_SECONDS[name] ?? OTHER_SECONDS, startsMachine, specification };
    });
    if (files.some(({ path }) => !WITHOUT_PROGRAM.test(path))) makeFreshBundle();
    const workers = Math.min(this.ctx.config.maxWorkers, availableParallelism());
    return Promise.resolve(planned(files, workers).map(({ specification }) => specification));
  }
}
