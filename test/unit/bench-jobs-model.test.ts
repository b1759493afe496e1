/** The model behind `pcache bench jobs`: jobs that share a lock and cache lines, in virtual time. */
import { describe, expect, it } from 'vitest';
import { lastWorthwhile } from '../../src/bench/jobs-bench.js';
import { JobTimes, modelJobs } from '../../src/bench/jobs-model.js';
import { Event, Recording } from '../../src/bench/shared-touches.js';
import { LINE_WORDS, Word } from '../../src/engine/shards/shared-state.js';

const GROUPS = 1000;
const LINE = 40;

/** Groups that take 300 ns, of which they hold the lock for `holdNs`, and touch lines. */
function recording({ holdNs = 0, touches = [] as readonly number[] }): Recording {
  const made = new Recording();
  for (let n = 0; n < GROUPS; n++) {
    made.events.push(...touches);
    if (holdNs > 0) {
      made.events.push(Event.lock, Event.unlock);
      made.holdNs.push(holdNs);
    }
    made.events.push(Event.groupEnd);
    made.groupNs.push(300);
  }
  return made;
}

function model(recordings: readonly Recording[], transferNs = 0) {
  return modelJobs(recordings, new JobTimes(recordings), { transferNs, depth: 1 });
}

const several = (jobs: number, what: Parameters<typeof recording>[0]) =>
  Array.from({ length: jobs }, () => recording(what));

describe('jobs that share', () => {
  it('nothing go on at once', () => {
    const { requestsPerSecond, nsPerRequest, lockHeldShare, transfersPerRequest } = model(several(8, {}));
    expect(nsPerRequest).toBeCloseTo(300, 0);
    expect(requestsPerSecond).toBeCloseTo(8 / 300e-9, -6);
    expect([lockHeldShare, transfersPerRequest]).toEqual([0, 0]);
  });

  it('a lock get no further than it allows', () => {
    const two = model(several(2, { holdNs: 100 }));
    expect(two.lockHeldShare).toBeCloseTo(2 / 3, 1);
    expect(two.lockWaitShare).toBeLessThan(0.01);
    const many = model(several(12, { holdNs: 100 }));
    expect(many.requestsPerSecond / 1e9).toBeCloseTo(1 / 100, 4);
    expect(many.lockHeldShare).toBeCloseTo(1, 2);
    expect(many.lockWaitShare).toBeCloseTo(3 / 4, 1); // 300 of 1200 ns
  });

  it('a cache line wait for it when another one has changed it', () => {
    const store = 2 * LINE + 1;
    const load = 2 * LINE;
    expect(model(several(2, { touches: [store] }), 100).transfersPerRequest).toBeCloseTo(1, 1);
    expect(model(several(2, { touches: [store] }), 100).nsPerRequest).toBeCloseTo(400, -1);
    expect(model(several(1, { touches: [store] }), 100).transfersPerRequest).toBe(0);
    expect(model(several(8, { touches: [load] }), 100).transfersPerRequest).toBeCloseTo(7 / (8 * GROUPS), 5);
    const reader = model([recording({ touches: [load] }), recording({ touches: [store] })], 100);
    expect(reader.transfersPerRequest).toBeCloseTo(1, 1);
  });
});

it('a number of jobs is worth it while it gives half of what its processors could', () => {
  const steps = (...rates: number[]) => rates.map((requestsPerSecond, n) => ({ jobs: 2 ** n, requestsPerSecond }));
  expect(lastWorthwhile(steps(10, 20, 40), 10)).toBe(4);
  expect(lastWorthwhile(steps(10, 20, 29), 10)).toBe(2);
  expect(lastWorthwhile(steps(10, 14, 40), 10)).toBe(1);
});

it('no two words that threads share lie in one cache line', () => {
  const lines = Object.values(Word).map((word) => Math.floor(word / LINE_WORDS));
  expect(new Set(lines).size).toBe(lines.length);
});
