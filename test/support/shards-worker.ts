/**
 * A thread of `shards-process.ts`: random requests in the subtrees of one shard, group after group, every answer
 * checked against what it has written itself. Before it asks for a flush it notes what all threads have acknowledged;
 * that and its own FUA writes go into its file of what has to outlive a crash.
 */
import { openSync, writeSync } from 'node:fs';
import { parentPort, workerData, type MessagePort } from 'node:worker_threads';
import { openBackingAgain, type SharedBacking } from '../../src/engine/device/backing-file.js';
import type { MappedDevice } from '../../src/engine/device/mapped.js';
import { bestCrc32c } from '../../src/engine/device/native.js';
import { mapAgain } from '../../src/engine/device/open.js';
import { Op, openShard, RequestFlag, RequestGroup, RequestState, type ShardSeed } from '../../src/engine/index.js';
import { SECTOR_BYTES, SUBTREE_SECTORS } from '../../src/engine/media/geometry.js';
import { Random } from '../../src/engine/sim/random.js';
import type { ShardsJobData } from './shards-process.js';
import { describeContents, NOT_A_STAMP, readStamp, stamp, wordsOf, ZEROES } from './stamps.js';

const GROUP_MAX = 12;
const SECTORS_MAX = 24;
const WRONG_MAX = 10;
/** Sectors at the end of each subtree that are zeroed and not written, with holes. */
const HOLES_SECTORS = 1024;
const SECTOR_WORDS = SECTOR_BYTES / 4;
const SLOT_WORDS = SECTORS_MAX * SECTOR_WORDS;

const data = workerData as ShardsJobData & {
  readonly shardSeed: ShardSeed;
  readonly workSeed: number;
  readonly device: MappedDevice;
  readonly file: SharedBacking;
};
const { shard, jobs, sectors, written, acked, reads, flushes, punches } = data;
const pmem = mapAgain(data.device);
const backing = openBackingAgain(data.file);
const clock = { nowMs: () => performance.now() };
const { driver, closed } = openShard({ seed: data.shardSeed, pmem, backing, clock, crc: bestCrc32c(), punches });
const random = new Random(data.workSeed * 64 + shard);
const memory = new Uint8Array(GROUP_MAX * SECTORS_MAX * SECTOR_BYTES);
const words = wordsOf(memory);
const group = new RequestGroup(GROUP_MAX, pmem.registerArena(memory));
const durableFd = openSync(`${data.durable}${shard}`, 'w');
const durable = new Int32Array(sectors);
const wrong: string[] = [];
const failed: string[] = [];
/** Of the group: first sector, sectors, id. */
const firsts: number[] = [];
const counts: number[] = [];
const ids: number[] = [];
const before = new Int32Array(GROUP_MAX * SECTORS_MAX);
let lastId = 0;
let requests = 0;
let snapshot: Int32Array | undefined;

/** @returns first sector and end of one of the subtrees of this shard */
function pickSubtree(): [number, number] {
  const subtrees = Math.ceil(sectors / SUBTREE_SECTORS);
  const own = Math.floor((subtrees - shard + jobs - 1) / jobs);
  const subtree = shard + jobs * random.below(own);
  return [subtree * SUBTREE_SECTORS, Math.min(sectors, (subtree + 1) * SUBTREE_SECTORS)];
}

function pickRange(): [number, number] {
  const [start, end] = pickSubtree();
  const length = end - start - (punches ? HOLES_SECTORS : 0);
  const count = random.between(1, SECTORS_MAX);
  // Half of all go to a small part, so that the cache is hit.
  const reach = random.below(2) === 0 ? Math.min(length, 512) : length;
  return [start + random.below(reach - count + 1), count];
}

function addZeroes(i: number): void {
  const [, end] = pickSubtree();
  counts[i] = random.between(1, SECTORS_MAX);
  firsts[i] = end - HOLES_SECTORS + random.below(HOLES_SECTORS - counts[i] + 1);
  ids[i] = ZEROES;
  const op = random.below(2) === 0 ? Op.trim : Op.zero;
  group.add(op, firsts[i] * SECTOR_BYTES, counts[i] * SECTOR_BYTES, 0, random.below(8) === 0 ? RequestFlag.fua : 0);
}

function add(): void {
  const i = group.count;
  const kind = random.below(100);
  const at = i * SLOT_WORDS;
  if (kind < flushes) {
    group.add(Op.flush, 0, 0, 0);
    firsts[i] = counts[i] = ids[i] = 0;
    snapshot ??= acked.slice();
    return;
  }
  if (punches && random.below(8) === 0) {
    addZeroes(i);
    return;
  }
  const [first, count] = pickRange();
  firsts[i] = first;
  counts[i] = count;
  if (kind < flushes + reads) {
    ids[i] = 0;
    group.add(Op.read, first * SECTOR_BYTES, count * SECTOR_BYTES, at * 4);
    for (let n = 0; n < count; n++) before[i * SECTORS_MAX + n] = acked[first + n];
    return;
  }
  const id = ++lastId * jobs + shard;
  ids[i] = id;
  for (let n = 0; n < count; n++) {
    stamp(words, at + n * SECTOR_WORDS, first + n, id);
    written[first + n] = id;
  }
  const flags = random.below(4) === 0 ? RequestFlag.fua : 0;
  group.add(Op.write, first * SECTOR_BYTES, count * SECTOR_BYTES, at * 4, flags);
}

function note(first: number, count: number): void {
  writeSync(durableFd, new Uint8Array(durable.buffer, first * 4, count * 4), 0, count * 4, first * 4);
}

function check(i: number): void {
  requests++;
  if (group.state[i] !== RequestState.done) {
    failed.push(group.errors[i]?.message ?? `request ${i} did not end`);
    return;
  }
  const first = firsts[i];
  const count = counts[i];
  if (group.op[i] === Op.write) {
    for (let n = 0; n < count; n++) Atomics.store(acked, first + n, Math.max(acked[first + n], ids[i]));
    if ((group.flags[i] & RequestFlag.fua) === 0) return;
    for (let n = 0; n < count; n++) durable[first + n] = Math.max(durable[first + n], ids[i]);
    note(first, count);
  } else if (group.op[i] >= Op.trim) {
    written.fill(ZEROES, first, first + count);
  } else if (group.op[i] === Op.read) {
    for (let n = 0; n < count && wrong.length < WRONG_MAX; n++) {
      const id = readStamp(words, i * SLOT_WORDS + n * SECTOR_WORDS, first + n);
      if (id === NOT_A_STAMP && racesWithWriteback(i, first + n)) continue;
      if (id < before[i * SECTORS_MAX + n] || id > written[first + n]) {
        wrong.push(
          `sector ${first + n}: read ${id}, not ${before[i * SECTORS_MAX + n]} to ${written[first + n]}; ${story(i, n)}`,
        );
      }
    }
  }
}

/**
 * Whether read `i` was of the backing device while a write that came with it may have been written back to it: a file
 * shows the one half of a sector as it was, and the other as it is.
 */
function racesWithWriteback(i: number, sector: number): boolean {
  if (group.missBytes[i] === 0) return false;
  for (let k = i + 1; k < group.count; k++) {
    if (group.op[k] === Op.write && sector >= firsts[k] && sector < firsts[k] + counts[k]) return true;
  }
  return false;
}

/** What the group did to sector `n` of its request `i`. */
function story(i: number, n: number): string {
  const sector = firsts[i] + n;
  const told: string[] = [];
  for (let k = 0; k < group.count; k++) {
    if (sector < firsts[k] || sector >= firsts[k] + counts[k]) continue;
    told.push(group.op[k] === Op.write ? `written ${ids[k]}` : `read (${group.missBytes[k]} bytes of backing)`);
  }
  return `${told.join(', ')}; ${describeContents(words, i * SLOT_WORDS + n * SECTOR_WORDS)}`;
}

async function round(): Promise<void> {
  group.clear();
  snapshot = undefined;
  const size = random.between(1, GROUP_MAX);
  while (group.count < size) add();
  await new Promise<void>((resolve) => {
    group.onRequestDone = () => {
      if (group.pending === 0) resolve();
    };
    const pending = driver.cache.submit(group);
    driver.kick();
    if (pending === 0) resolve();
  });
  for (let i = 0; i < group.count; i++) check(i);
  if (snapshot === undefined || failed.length > 0) return;
  for (let n = 0; n < sectors; n++) durable[n] = Math.max(durable[n], snapshot[n]);
  note(0, sectors);
}

for (let n = 0; (n < data.groups || data.groups === 0) && wrong.length < WRONG_MAX && failed.length < WRONG_MAX; n++) {
  await round();
  if (n % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
}
(parentPort as unknown as MessagePort).postMessage({ requests, wrong, failed });
await closed;
pmem.close();
backing.close();
