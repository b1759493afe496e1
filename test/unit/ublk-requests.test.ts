/** Requests of a ublk device on their way to a store and back, with a queue and a store that a test drives. */
import { beforeEach, describe, expect, it } from 'vitest';
import { RequestOp } from '../../src/block-device/ublk-abi.js';
import { UblkQueue } from '../../src/block-device/ublk-queue.js';
import { Op, PcacheError, RequestFlag, RequestState, type RequestGroup } from '../../src/engine/index.js';
import { ServerStats } from '../../src/nbd/stats.js';
import type { Store } from '../../src/nbd/store.js';
import { UblkRequests } from '../../src/nbd/ublk-requests.js';
import { WritePacer } from '../../src/nbd/write-pacer.js';

const DEPTH = 8;
const IO_BYTES = 8192;

/** A queue that records the results. */
class RecordedQueue extends UblkQueue {
  readonly results: [tag: number, result: number][] = [];
  override complete(tag: number, result: number): void {
    this.results.push([tag, result]);
  }
}

interface Asked {
  readonly tag: number;
  readonly op: number;
  readonly offset?: number;
  readonly length?: number;
}

let queue: RecordedQueue;
let groups: RequestGroup[];
let told: string[];
let stats: ServerStats;
let requests: UblkRequests;
/** How the store ends each request at once; undefined leaves it pending. */
let end: ((group: RequestGroup, i: number) => number) | undefined;

beforeEach(() => {
  queue = new RecordedQueue({
    path: '/dev/ublkb0',
    fd: 0,
    number: 0,
    depth: DEPTH,
    maxIoBytes: IO_BYTES,
    isEncoded: true,
  });
  groups = [];
  told = [];
  stats = new ServerStats();
  end = () => RequestState.done;
  const store: Store = {
    sizeBytes: 1 << 20,
    isReadOnly: false,
    submit: (group) => {
      groups.push(group);
      for (let i = 0; i < group.count && end; i++) group.state[i] = end(group, i);
      return (group.pending = end ? 0 : group.count);
    },
    makeArena: (lengthBytes) => ({ id: 0, memory: new Uint8Array(lengthBytes) }),
    dropArena: () => {},
  };
  const nowMs = () => 0;
  const pacer = new WritePacer({ pressure: () => undefined, nowMs });
  requests = new UblkRequests(queue, { store, stats, pacer, nowMs, tell: (_, text) => told.push(text) });
});

function ask(...asked: Asked[]): void {
  asked.forEach(({ tag, op, offset = 0, length = 0 }, i) => {
    queue.columns.tag[i] = tag;
    queue.columns.op[i] = op;
    queue.columns.offsetBytes[i] = offset;
    queue.columns.lengthBytes[i] = length;
  });
  requests.take(asked.length);
}

describe('the requests of a ublk device', () => {
  it('share a group when they come together, reads apart from the rest, with the payload where the driver puts it', () => {
    ask(
      { tag: 3, op: RequestOp.write, offset: 4096, length: 8192 },
      { tag: 1, op: RequestOp.read, offset: 512, length: 512 },
      { tag: 0, op: RequestOp.flush, offset: 7, length: 9 },
      { tag: 2, op: RequestOp.write, offset: 0, length: 512 },
    );
    const rows = groups.map((group) =>
      Array.from({ length: group.count }, (_, i) => [
        ...[group.op[i], group.offsetBytes[i], group.lengthBytes[i], group.arenaOffsetBytes[i]],
      ]),
    );
    expect(rows).toEqual([
      [
        [Op.write, 4096, 8192, 3 * IO_BYTES],
        [Op.flush, 0, 0, 0],
        [Op.write, 0, 512, 2 * IO_BYTES],
      ],
      [[Op.read, 512, 512, IO_BYTES]],
    ]);
    expect(queue.results).toEqual([
      [3, 8192],
      [0, 0],
      [2, 512],
      [1, 512],
    ]);
    expect(stats).toMatchObject({ requests: 4, writeBytes: 8704, readBytes: 512, flushRequests: 1 });
  });

  it('that write are in the log before they are answered, since the device outlives a killed server', () => {
    ask({ tag: 0, op: RequestOp.write, length: 512 }, { tag: 1, op: RequestOp.write, offset: 512, length: 512 });
    expect([...groups[0].flags.subarray(0, 2)]).toEqual([RequestFlag.fua, RequestFlag.fua]);
  });

  it('that zero are durable before they are answered, and keep the space, and a discard is neither', () => {
    const length = 8 * 1024 * 1024; // longer than the memory of a tag
    ask({ tag: 1, op: RequestOp.writeZeroes, offset: 4096, length }, { tag: 2, op: RequestOp.discard, length });
    const [{ op, flags, offsetBytes, lengthBytes }] = groups;
    expect([...op.subarray(0, 2)]).toEqual([Op.zero, Op.trim]);
    expect([...flags.subarray(0, 2)]).toEqual([RequestFlag.fua | RequestFlag.keepsSpace, 0]);
    expect([offsetBytes[0], lengthBytes[0], lengthBytes[1]]).toEqual([4096, length, length]);
    expect(queue.results).toEqual([
      [1, length],
      [2, length],
    ]);
    expect(stats).toMatchObject({ zeroRequests: 1, zeroBytes: length, trimRequests: 1, trimBytes: length });
  });

  it('are answered only when the store has ended them', () => {
    end = undefined;
    ask({ tag: 5, op: RequestOp.write, length: 4096 }, { tag: 6, op: RequestOp.write, length: 512 });
    expect(queue.results).toEqual([]);
    const [group] = groups;
    for (const i of [1, 0]) {
      group.state[i] = RequestState.done;
      group.pending--;
      group.onRequestDone!(group, i);
    }
    expect(queue.results).toEqual([
      [6, 512],
      [5, 4096],
    ]);
  });

  it('that fail are answered with the number of the error, and told of', () => {
    end = (group, i) => {
      group.errors[i] = new PcacheError('NO_SPACE', 'no room');
      return RequestState.failed;
    };
    ask({ tag: 2, op: RequestOp.write, length: 512 });
    expect(queue.results).toEqual([[2, -28]]);
    expect(told).toEqual(['write failed: no room']);
    expect(stats.failedRequests).toBe(1);
  });

  it('that are not offered are refused', () => {
    ask({ tag: 4, op: 4, length: 512 });
    expect(queue.results).toEqual([[4, -95]]);
    expect(groups).toEqual([]);
  });
});
