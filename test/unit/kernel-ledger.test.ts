/** The judge of the real-kernel tests: a verdict that cannot fail would prove nothing there. */
import { describe, expect, it } from 'vitest';
import { afterAll, contentsOf, decodeAcks, differences, idsOf, judgeCrash } from '../kernel/ledger.js';
import { firstRequests, KernelOp, requestsOf, writes, type Request, type Workload } from '../kernel/requests.js';
import { NOT_A_STAMP } from '../support/stamps.js';

const SECTORS = 16;
const base = new Int32Array(SECTORS);

const write = (id: number, sector: number, sectors: number, op: number = KernelOp.write): Request => ({
  op,
  thread: 0,
  sector,
  sectors,
  id,
});
const flush = (id: number): Request => ({ op: KernelOp.flush, thread: 0, sector: 0, sectors: 0, id });

/** Sector 0: written and flushed, then written twice more. Sector 4: FUA. Sector 8: plain. */
const requests = [
  write(1, 0, 2),
  flush(2),
  write(3, 0, 1),
  write(4, 4, 1, KernelOp.fua),
  write(5, 8, 1),
  write(6, 0, 1),
  write(7, 12, 1),
];

function judge(acked: number, inFlight: number, held: Record<number, number>): number {
  const found = base.slice();
  for (const [sector, id] of Object.entries(held)) found[Number(sector)] = id;
  return judgeCrash(base, requests, [acked], inFlight, found).wrong.length;
}

describe('what a crash may leave', () => {
  it('is the last durable version of every sector, or a later one that was submitted', () => {
    expect(judge(5, 1, { 0: 1, 1: 1, 4: 4 })).toBe(0);
    expect(judge(5, 1, { 0: 3, 1: 1, 4: 4, 8: 5 })).toBe(0);
    expect(judge(5, 1, { 0: 6, 1: 1, 4: 4, 8: 5 })).toBe(0);
  });

  it('is not less than what was flushed or written with FUA', () => {
    expect(judge(5, 1, { 0: 0, 1: 1, 4: 4 })).toBe(1);
    expect(judge(5, 1, { 0: 1, 1: 0, 4: 4 })).toBe(1);
    expect(judge(5, 1, { 0: 1, 1: 1, 4: 0 })).toBe(1);
  });

  it('need not have a write whose flush was not acknowledged', () => {
    expect(judge(1, 1, {})).toBe(0);
    expect(judge(2, 1, {})).toBe(2);
  });

  it('is not a write that was never submitted, or of another place, or nobody’s', () => {
    expect(judge(5, 1, { 0: 1, 1: 1, 4: 4, 12: 7 })).toBe(1);
    expect(judge(5, 2, { 0: 1, 1: 1, 4: 4, 12: 7 })).toBe(0);
    expect(judge(5, 1, { 0: 1, 1: 1, 4: 4, 9: 5 })).toBe(1);
    expect(judge(5, 1, { 0: 1, 1: 1, 4: 4, 8: NOT_A_STAMP })).toBe(1);
    expect(judge(5, 1, { 0: 1, 1: 1, 4: 4, 8: 2 })).toBe(1);
  });

  it('counts what was durable and what was lost', () => {
    const found = base.slice();
    found.set([1, 1], 0);
    found[4] = 4;
    expect(judgeCrash(base, requests, [5], 0, found)).toEqual({
      wrong: [],
      requestsEnded: 5,
      durableSectors: 3,
      lostSectors: 2,
    });
  });

  it('tells threads apart', () => {
    const other: Request[] = [write(1, 0, 1), { ...write(2, 8, 1), thread: 1 }, flush(3)];
    expect(judgeCrash(base, other, [2, 0], 0, afterAll(base, [other[0]])).wrong).toEqual([]);
    expect(judgeCrash(base, other, [2, 1], 0, afterAll(base, [other[1]])).wrong).toHaveLength(1);
    expect(judgeCrash(base, other, [2, 0], 0, afterAll(base, [other[0], other[1]])).wrong).toHaveLength(1);
  });
});

it('contents tell the ids they were made of, and damage', () => {
  const ids = Int32Array.from({ length: SECTORS }, (_, n) => n * 7);
  const contents = contentsOf(ids);
  expect(differences(idsOf(contents), ids)).toEqual([]);
  contents[5 * 512 + 300] ^= 1;
  expect(idsOf(contents)[5]).toBe(NOT_A_STAMP);
  expect(differences(idsOf(contents), ids)).toHaveLength(1);
});

it('acknowledgements that were never written are none', () => {
  expect(decodeAcks(undefined, 2)).toEqual([0, 0]);
  expect(decodeAcks(Uint8Array.of(3, 1, 0, 0), 2)).toEqual([259, 0]);
});

describe('workloads', () => {
  const workload: Workload = {
    kind: 'mixed',
    seed: 3,
    count: 5000,
    deviceSectors: 12 * 8192 - 5,
    threads: 2,
    firstId: 100,
  };

  it('are the same every time, and have all there is to have', () => {
    const all = [...requestsOf(workload)];
    expect(all).toEqual(firstRequests(workload, 9999));
    expect(all.map((one) => one.id)).toEqual(all.map((_, n) => 100 + n));
    expect(new Set(all.map((one) => one.op)).size).toBe(4);
    expect(Math.max(...all.map((one) => one.sectors))).toBeGreaterThan(1500);
    expect(all.some((one) => Math.floor(one.sector / 8192) !== Math.floor((one.sector + one.sectors - 1) / 8192))).toBe(
      true,
    );
    for (const one of all) expect(one.sector + one.sectors).toBeLessThanOrEqual(workload.deviceSectors);
  });

  it('never have two threads write one sector', () => {
    const owner = new Map<number, number>();
    for (const one of requestsOf(workload)) {
      if (!writes(one)) continue;
      for (let s = one.sector; s < one.sector + one.sectors; s++) {
        expect(owner.get(s) ?? one.thread).toBe(one.thread);
        owner.set(s, one.thread);
      }
    }
    expect(new Set(owner.values()).size).toBe(2);
  });
});
