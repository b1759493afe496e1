/** When requests that need durability go to the engine, where the cache is a plain file. */
import { describe, expect, it } from 'vitest';
import { Op, RequestFlag, RequestGroup, RequestState } from '../../src/engine/index.js';
import { EarlySync } from '../../src/nbd/early-sync.js';

const MIB = 1024 * 1024;
const arena = { id: 0, memory: new Uint8Array(8 * MIB) };

function group(...requests: (readonly [op: number, lengthBytes: number, flags?: number])[]): RequestGroup {
  const made = new RequestGroup(8, arena);
  for (const [op, lengthBytes, flags = 0] of requests) made.add(op, 0, lengthBytes, 0, flags);
  return made;
}
const write = (lengthBytes = 4096) => group([Op.write, lengthBytes]);
const flush = () => group([Op.flush, 0]);

/** An engine that ends requests at once, except those in `slow`. */
function make() {
  const given: RequestGroup[] = [];
  const syncs: (() => void)[] = [];
  const slow = new Set<RequestGroup>();
  const early = new EarlySync({
    beginSync: (done) => syncs.push(done),
    submit: (one) => {
      given.push(one);
      if (slow.has(one)) return (one.pending = one.count);
      one.state.fill(RequestState.done, 0, one.count);
      return (one.pending = 0);
    },
  });
  return { early, given, syncs, slow };
}

describe('on a cache that is a plain file', () => {
  it('a flush goes to the engine only when a sync that began after it has ended', () => {
    const { early, given, syncs } = make();
    const one = flush();
    expect(early.submit(one)).toBe(1);
    expect([given.length, syncs.length]).toEqual([0, 1]);
    const later = flush();
    early.submit(later);
    expect(syncs).toHaveLength(1); // one at a time
    syncs[0]();
    expect(given).toEqual([one]);
    expect(syncs).toHaveLength(2);
    syncs[1]();
    expect(given).toEqual([one, later]);
    expect(syncs).toHaveLength(2);
  });

  it('a FUA write is held, and others go to the engine meanwhile', () => {
    const { early, given, syncs } = make();
    const fua = group([Op.read, 512], [Op.write, 4096, RequestFlag.fua]);
    const plain = write();
    const read = group([Op.read, 4096]);
    expect([early.submit(fua), early.submit(plain), early.submit(read)]).toEqual([2, 0, 0]);
    expect(given).toEqual([plain, read]);
    syncs[0]();
    expect(given).toEqual([plain, read, fua]);
  });

  it('each request that was held is reported once when it ends', () => {
    const { early, syncs } = make();
    const held = group([Op.flush, 0], [Op.write, 4096]);
    const reported: [number, number][] = [];
    held.onRequestDone = (one, i) => reported.push([i, one.pending]);
    early.submit(held);
    expect(held.pending).toBe(2);
    syncs[0]();
    expect(reported).toEqual([
      [0, 1],
      [1, 0],
    ]);
  });

  it('a request that the engine ends later is not reported by the sync', () => {
    const { early, syncs, slow } = make();
    const held = flush();
    slow.add(held);
    held.onRequestDone = () => expect.unreachable();
    early.submit(held);
    syncs[0]();
    expect(held.pending).toBe(1);
  });

  it('a sync begins after every 4 MiB of payload', () => {
    const { early, syncs } = make();
    early.submit(write(3 * MIB));
    early.submit(group([Op.read, 4 * MIB]));
    expect(syncs).toHaveLength(0);
    early.submit(write(MIB));
    expect(syncs).toHaveLength(1);
    early.submit(write(5 * MIB));
    expect(syncs).toHaveLength(1);
    syncs[0]();
    expect(syncs).toHaveLength(2);
  });
});
