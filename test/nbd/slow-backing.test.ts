/** A cache over a slow disk, full: writes go on at the disk's speed, without stalls, and fairly. */
import { rmSync, mkdirSync } from 'node:fs';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { describeWithClient, findClient } from '../support/clients.js';
import { makeImageFolder } from '../support/kernel.js';
import { RUNS_LONG_TESTS } from '../support/long.js';
import { attach, makeDevices, sparseFile, type Attached } from './attached.js';
import { ControlClient } from '../../src/nbd/control.js';
import { NbdClient } from './client.js';
import { StarvationWatch } from './starvation.js';

const MIB = 1024 * 1024;
const SIZE_BYTES = 1024 * MIB;
/** `PCACHE_SLOW_DISK=1ms,30ms` and `PCACHE_SLOW_DISK_SECONDS=900` take other delays of a write, and longer. */
const { PCACHE_SLOW_DISK, PCACHE_SLOW_DISK_SECONDS } = process.env;
const WRITE_DELAYS = PCACHE_SLOW_DISK?.split(',') ?? (RUNS_LONG_TESTS ? ['1ms'] : ['10ms']);
const SECONDS = Number(PCACHE_SLOW_DISK_SECONDS ?? (RUNS_LONG_TESTS ? 60 : 15));
/** Longest time without a completed write, apart from the time that a process involved waited for a processor. */
const STALL_MAX_MS = 500;
vi.setConfig({ testTimeout: 1000 * (SECONDS + 90) });

const folder = makeImageFolder();
const mount = join(folder, 'fuse');
const children: ChildProcess[] = [];
let attached: Attached | undefined;

afterEach(async () => {
  await attached?.stop('SIGKILL');
  attached = undefined;
  try {
    execFileSync('umount', [mount], { stdio: 'ignore' });
  } catch {
    // It was not mounted.
  }
  for (const child of children.splice(0)) child.kill('SIGTERM');
  rmSync(folder, { recursive: true, force: true });
});

/** A file whose writes take so long each, one after another. @returns undefined where FUSE cannot be used */
async function slowFile(writeDelay: string): Promise<string | undefined> {
  mkdirSync(folder, { recursive: true });
  const image = sparseFile(join(folder, 'slow.img'), SIZE_BYTES);
  const socket = join(folder, 'kit.sock');
  children.push(
    spawn('nbdkit', ['-f', '-U', socket, '--filter=delay', 'file', image, `wdelay=${writeDelay}`], { stdio: 'ignore' }),
  );
  await sleep(500);
  mkdirSync(mount, { recursive: true });
  children.push(spawn('nbdfuse', [mount, '--unix', socket], { stdio: 'ignore' }));
  for (let n = 0; n < 50; n++) {
    await sleep(100);
    try {
      execFileSync('test', ['-f', join(mount, 'nbd')]);
      return join(mount, 'nbd');
    } catch {
      // Not mounted yet.
    }
  }
  return undefined;
}

describeWithClient('a full cache over a slow disk', 'nbdfuse', () => {
  describe.skipIf(findClient('nbdkit') === undefined)('with nbdkit', () => {
    it.each(WRITE_DELAYS)(
      `a cache over a disk that takes %s a write completes writes without half a second in between, for ${SECONDS} s, and ends within 10 s`,
      async (writeDelay) => {
        const slow = await slowFile(writeDelay);
        if (slow === undefined) return expect.unreachable('FUSE cannot be used here');
        const { cache } = await makeDevices(folder);
        attached = await attach(folder, [cache, slow]);
        const filler = await NbdClient.connect(attached.socket);
        // Fills the cache: more than its 31 segments hold.
        const full = Date.now() + 1000 * SECONDS;
        let last = Date.now();
        let longestMs = 0;
        let longestOwnMs = 0;
        let completed = 0;
        const pids = [process.pid, attached.child.pid!, ...children.map((child) => child.pid!)];
        const starvation = new StarvationWatch(pids);
        const ended = (now: number): void => {
          const gapMs = now - last;
          longestMs = Math.max(longestMs, gapMs);
          if (gapMs > longestOwnMs) {
            const starvedMs = gapMs < STALL_MAX_MS / 2 ? 0 : starvation.between(last, now);
            longestOwnMs = Math.max(longestOwnMs, gapMs - starvedMs);
            if (gapMs > STALL_MAX_MS) {
              console.log(
                `${writeDelay}: no write completed for ${gapMs} ms, ${Math.round(starvedMs)} ms of it starved`,
              );
            }
          }
          last = now;
        };
        const write = async (): Promise<void> => {
          const block = Buffer.alloc(4096, 1);
          while (Date.now() < full) {
            await filler.write(4096 * Math.floor(Math.random() * (SIZE_BYTES / 4096)), block);
            ended(Date.now());
            completed++;
          }
        };
        const writers = Array.from({ length: 16 }, write);
        await sleep(1000 * (SECONDS - 4));
        const other = await NbdClient.connect(attached.socket);
        const startedMs = Date.now();
        await other.write(0, Buffer.alloc(4096, 2));
        const otherMs = Date.now() - startedMs;
        const control = await ControlClient.connect({ device: undefined, socket: attached.socket });
        const { pacing } = await control.status();
        control.close();
        await Promise.all(writers);
        starvation.stop();
        console.log(
          `${writeDelay}: ${completed} writes in ${SECONDS} s; longest time without one ${longestMs} ms, ` +
            `${Math.round(longestOwnMs)} ms of it ours; another client's write ${otherMs} ms`,
        );
        expect(pacing.slowed).toBe(true);
        filler.close();
        other.close();
        const stoppedMs = Date.now();
        expect((await attached.stop()).status).toBe(0);
        expect(Date.now() - stoppedMs).toBeLessThan(10_000);
        expect(completed).toBeGreaterThan(1000);
        expect(longestOwnMs).toBeLessThan(STALL_MAX_MS);
        expect(otherMs).toBeLessThan(1000);
      },
    );
  });
});
