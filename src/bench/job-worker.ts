/** What a thread of `pcache bench --jobs` runs: one shard of the cache, and the requests for it. */
import { performance } from 'node:perf_hooks';
import { parentPort, workerData } from 'node:worker_threads';
import { openBackingAgain } from '../engine/device/backing-file.js';
import { bestCrc32c } from '../engine/device/native.js';
import { mapAgain } from '../engine/device/open.js';
import { assert, noteOf, PcacheError } from '../engine/errors.js';
import { CRC_SEED } from '../engine/media/crc32c.js';
import { MIB } from '../engine/media/geometry.js';
import { openShard, RequestGroup } from '../engine/index.js';
import type { FromJob, JobData, ToJob } from './jobs.js';
import { NullBacking } from './null-backing.js';
import { Blocks, BlocksOfJob, PatternSource } from './pattern.js';
import { arenaBlocks, sameBlocks, writeBlocks } from './rig.js';
import { Rounds } from './rounds.js';

/** Blocks between two words on how far the filling is. */
const FILLING_STEP = 8192;
/** Some hundred microseconds. */
const SPINS = 20_000;

const port = parentPort;
assert(port !== null, 'a job was started as a program');
const tell = (message: FromJob) => port.postMessage(message);
const data = workerData as JobData;
const { seed, jobs, pattern, blockBytes, depth, fuaEvery, meeting } = data;

const pmem = mapAgain(data.device);
const backing = 'file' in data.backing ? openBackingAgain(data.backing.file) : new NullBacking(data.backing.nullBytes);
const clock = { nowMs: () => performance.now() };
const { driver, closed } = openShard({ seed, pmem, backing, clock, crc: bestCrc32c() });
const arena = pmem.registerArena(sameBlocks(arenaBlocks(depth), blockBytes));
const rig = { pmem, cache: driver.cache, driver, arena, group: new RequestGroup(arenaBlocks(depth), arena) };
const all = new Blocks(blockBytes, data.blocks, data.spanBytes, pattern === 'read' || pattern === 'write');
const blocks = new BlocksOfJob(all, seed.shard, jobs);
let rounds: Rounds | undefined;

/** Returns when all jobs are here. They come soon after one another, so nobody goes to sleep but where they are many. */
function meet(): void {
  const turn = Atomics.load(meeting, 1);
  if (Atomics.add(meeting, 0, 1) + 1 === jobs) {
    Atomics.store(meeting, 0, 0);
    Atomics.store(meeting, 1, turn + 1);
    Atomics.notify(meeting, 1);
    return;
  }
  for (let spins = 0; Atomics.load(meeting, 1) === turn; spins++) {
    if (spins > SPINS) Atomics.wait(meeting, 1, turn);
  }
}

/** Has every page of a cache in memory mapped, as the zeroing of a new one does in the thread that makes it. */
function touch(): void {
  if (pmem.durability !== 'volatile') return;
  for (let at = 0; at < pmem.sizeBytes; at += MIB) pmem.crc32c(at, Math.min(MIB, pmem.sizeBytes - at), CRC_SEED);
}

async function fill(): Promise<void> {
  if (blocks.count === 0) {
    throw new PcacheError(
      'USAGE',
      `--jobs ${jobs}: --span holds fewer blocks than there are jobs; use a larger --span or fewer jobs`,
    );
  }
  touch();
  let told = 0;
  await writeBlocks(rig, blocks, (done) => {
    if (done - told < FILLING_STEP) return;
    tell({ kind: 'filling', blocks: done - told });
    told = done;
  });
  rounds = new Rounds({
    rig,
    source: new PatternSource(pattern, blocks, 1 + seed.shard),
    blockBytes,
    depth,
    fuaEvery,
    requestsMax: data.requestsMax,
    cpuNs: () => {
      const { user, system } = process.cpuUsage(); // of all threads
      return (user + system) * 1000;
    },
    meet,
  });
  tell({ kind: 'filled', blocks: blocks.count });
}

async function round(requests: number): Promise<void> {
  assert(rounds !== undefined, 'rounds before the cache was filled');
  rounds.forget();
  await rounds.run(requests);
  tell({ kind: 'measured', round: rounds.rounds[0], cpuNs: rounds.cpuNs, latenciesNs: rounds.latenciesNs });
}

port.on('message', (message: ToJob) => {
  void (message.kind === 'fill' ? fill() : round(message.requests)).catch((error: unknown) => {
    tell({ kind: 'failed', error: noteOf(error) });
  });
});

await closed;
pmem.close();
backing.close();
port.close();
