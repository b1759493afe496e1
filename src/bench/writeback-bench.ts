/** `pcache bench writeback`: how fast dirty data goes to a backing device, beside plain writes of as much. */
import type { BackingDevice } from '../engine/device/backing.js';
import { spreadOf, medianOf, type Spread } from './spread.js';
import type { Blocks } from './pattern.js';
import type { Rig } from './rig.js';

const PLAIN_WRITE_BYTES = 1024 * 1024;

export interface WritebackBenchResult {
  readonly blockBytes: number;
  readonly keys: number;
  readonly rounds: number;
  readonly keysPerSecond: number;
  readonly bytesPerSecond: number;
  readonly writes: number;
  readonly flushes: number;
  /** Sequential writes of 1 MiB of as many bytes, and a flush. */
  readonly plainBytesPerSecond: number;
  readonly ratio: Spread;
}

/** Fills the cache with dirty blocks and writes them back, `rounds` times. */
export async function benchWriteback(
  rig: Rig,
  backing: BackingDevice,
  blocks: Blocks,
  rounds: number,
  onRound: (round: number) => void,
): Promise<WritebackBenchResult> {
  const { cache, driver } = rig;
  const bytes = blocks.count * blocks.blockBytes;
  const drainNs: number[] = [];
  const plainNs: number[] = [];
  for (let round = 0; round < rounds; round++) {
    cache.holdWriteback = true;
    await rig.write(blocks, () => {});
    cache.holdWriteback = false;
    drainNs.push(await timed(() => driver.drain()));
    plainNs.push(await timed(() => plainWrites(backing, bytes)));
    onRound(round + 1);
  }
  const { stats } = cache;
  return {
    blockBytes: blocks.blockBytes,
    keys: blocks.count,
    rounds,
    keysPerSecond: (blocks.count * 1e9) / medianOf(drainNs),
    bytesPerSecond: (bytes * 1e9) / medianOf(drainNs),
    writes: stats.writebackWrites,
    flushes: stats.backingFlushes,
    plainBytesPerSecond: (bytes * 1e9) / medianOf(plainNs),
    ratio: spreadOf(drainNs.map((ns, round) => plainNs[round] / ns)),
  };
}

async function timed(body: () => Promise<void>): Promise<number> {
  const started = performance.now();
  await body();
  return (performance.now() - started) * 1e6;
}

async function plainWrites(backing: BackingDevice, bytes: number): Promise<void> {
  const piece = new Uint8Array(PLAIN_WRITE_BYTES);
  const done = (start: (end: (error: Error | null) => void) => void) =>
    new Promise<void>((resolve, reject) => start((error) => (error ? reject(error) : resolve())));
  for (let at = 0; at < bytes; at += PLAIN_WRITE_BYTES) {
    const length = Math.min(PLAIN_WRITE_BYTES, bytes - at);
    await done((end) => backing.write(at % backing.sizeBytes, piece, 0, length, end));
  }
  await done((end) => backing.flush(end));
}
