/** Repairs that end early, from outside: killed at any moment, interrupted, and without a place for the undo file. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { UndoWriter } from '../../src/fsck/repair/undo-file.js';
import { damagedCopy, temporaryFolder, writableCopy } from '../support/cli-images.js';
import { PCACHE, runCli } from '../support/cli.js';
import { deviceOffset, ksetsOf } from '../support/damage/edit.js';
import { unpackImage } from '../support/images.js';
import { countOf } from '../support/long.js';
import { SparseImage } from '../support/sparse-image.js';

const folder = temporaryFolder('fsck-undo');

/** Superblock, both tails and two ksets: a repair of several rounds. */
function damage(image: SparseImage): void {
  const { places } = ksetsOf(image);
  image.zero(4096, 4096);
  image.zero(16384, 64);
  image.zero(deviceOffset(places[2]), 512);
  image.zero(deviceOffset(places[5]), 512);
}

const isSame = (a: string, b: string): boolean => {
  try {
    execFileSync('cmp', ['-s', a, b]);
    return true;
  } catch {
    return false;
  }
};

describe('fsck -y that is killed', () => {
  /** Runs the repair and kills it `afterMs` after its undo file has appeared. @returns whether it was killed in time */
  async function killedRepair(args: readonly string[], undo: string, afterMs: number): Promise<boolean> {
    const child = spawn(process.execPath, [PCACHE, 'fsck', ...args], { stdio: 'ignore' });
    const ended = new Promise<NodeJS.Signals | null>((resolve) => child.on('close', (_code, by) => resolve(by)));
    let isOver = false;
    void ended.then(() => (isOver = true));
    while (!isOver && !existsSync(undo)) await new Promise((resolve) => setImmediate(resolve));
    if (afterMs > 0) await new Promise((resolve) => setTimeout(resolve, afterMs));
    child.kill('SIGKILL');
    return (await ended) === 'SIGKILL';
  }

  const momentsMs = [8, 0, 30].slice(0, countOf({ share: 1, all: 3 }));
  it(
    `goes on when run again, and both undo files in turn give back every byte, at ${momentsMs.length} moments`,
    { timeout: 600_000 },
    async () => {
      const own = mkdtempSync(join(folder, 'killed-'));
      const before = await damagedCopy(own, 'dirty-crc', damage);
      const { backingPath } = await unpackImage('dirty-crc');
      let killed = 0;
      for (const momentMs of momentsMs) {
        const at = mkdtempSync(join(own, 'at-'));
        const path = writableCopy(at, before);
        const undo = `${path}.undo`;
        const args = [path, backingPath, '-y', '--accept-loss'];
        if (await killedRepair(args, undo, momentMs)) killed++;
        const again = await runCli(['fsck', ...args]);
        expect([0, 1], `${momentMs} ms: ${again.stderr}`).toContain(again.status);
        expect((await runCli(['fsck', path, backingPath])).status).toBe(0);
        for (const file of [`${undo}.2`, undo].filter((one) => existsSync(one))) {
          const undone = await runCli(['fsck', '--undo-apply', file, path]);
          expect([undone.status, undone.stderr]).toEqual([0, '']);
        }
        expect(isSame(path, before), `${momentMs} ms`).toBe(true);
        execFileSync('rm', ['-r', at]);
      }
      expect(killed).toBeGreaterThan(0);
    },
  );
});

describe('fsck -y after a repair that was cut off', () => {
  it.each([true, false])('says that data may be lost where that one lost some, and not else (%s)', async (losing) => {
    const own = mkdtempSync(join(folder, 'losing-'));
    const path = await damagedCopy(own, 'dirty-crc', () => undefined);
    const { backingPath } = await unpackImage('dirty-crc');
    const undo = new UndoWriter(`${path}.undo`);
    undo.record(SparseImage.fromFile(path), [], losing);
    undo.close();
    const said = [losing ? 4 : 0, losing ? 'perhaps lost: data whose ranges are not known' : 'clean'];
    const { status, stdout, stderr } = await runCli(['fsck', path, backingPath, '-y']);
    expect([status, stdout], stderr).toEqual([said[0], expect.stringContaining(`${said[1]}`)]);
    expect(stderr).toContain('its repair was cut off');
    expect((await runCli(['fsck', path, backingPath, '-y', '--accept-loss'])).status).toBe(0);
  });
});

describe('fsck -y whose undo file finds no room', () => {
  it('changes nothing in the end, whenever the filesystem is full, and says so in one line', async (context) => {
    if (process.getuid?.() !== 0) context.skip('only root can mount a small filesystem');
    const own = mkdtempSync(join(folder, 'full-'));
    const before = await damagedCopy(own, 'dirty-crc', damage);
    const small = join(own, 'small');
    mkdirSync(small);
    const path = writableCopy(own, before, 'cache');
    const undo = join(small, 'undo');
    let refused = 0;
    let afterRepairs = 0;
    for (let pages = 1; ; pages++) {
      // The folder itself takes one page.
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${4096 * pages},mode=700`, 'tmpfs', small]);
      try {
        const result = await runCli(['fsck', path, '-y', '--undo', undo]);
        if (result.status === 4) {
          expect(statSync(undo).size).toBeGreaterThan(4096);
          break;
        }
        refused++;
        expect(result.status).toBe(8);
        expect(result.stderr).toMatch(/^pcache: \S+undo: no space left .*--undo FILE; [^\n]*\n$/);
        const made = /^fixed: /m.test(result.stdout);
        if (made) afterRepairs++;
        expect(result.stderr).toContain(made ? '; every repair made so far was undone\n' : '; nothing was changed\n');
        expect(readdirSync(small)).toEqual([]);
        expect(isSame(path, before)).toBe(true);
      } finally {
        execFileSync('umount', [small]);
      }
      expect(pages).toBeLessThan(64);
    }
    expect(refused).toBeGreaterThan(1);
    expect(afterRepairs).toBeGreaterThan(0);
  });
});

describe('fsck -y whose undo file would be a FIFO', () => {
  it('is refused, and does not wait for its other end', async () => {
    const own = mkdtempSync(join(folder, 'fifo-'));
    const cache = await damagedCopy(own, 'dirty-crc', damage);
    const fifo = join(own, 'fifo');
    execFileSync('mkfifo', [fifo]);
    const { status, stderr } = await runCli(['fsck', cache, '-y', '--undo', fifo]);
    expect(status).toBe(16);
    expect(stderr).toContain(`${fifo}: `);
  });
});

describe('fsck -y that is interrupted before its first repair', () => {
  // Node.js itself hears SIGINT, and not SIGUSR2, for which the program listens with all others.
  const SIGUSR2_BIT = 1n << 11n;
  const hearsInterrupts = (pid: number): boolean => {
    const caught = /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? '0';
    return (BigInt(`0x${caught}`) & SIGUSR2_BIT) !== 0n;
  };

  it('says so, and changes nothing', async () => {
    const own = mkdtempSync(join(folder, 'interrupted-'));
    const cache = await damagedCopy(own, 'dirty-crc', damage);
    const before = execFileSync('sha256sum', [cache]).toString();
    const result = await runCli(['fsck', cache, '-y', '--undo', join(own, 'undo')], {
      onStart: (child) => {
        const look = setInterval(() => {
          if (!hearsInterrupts(child.pid!)) return;
          clearInterval(look);
          child.kill('SIGINT');
        }, 1);
      },
    });
    expect(result.status).toBe(130);
    expect(result.stderr).toContain('interrupted: nothing was repaired; run the command again');
    expect(execFileSync('sha256sum', [cache]).toString()).toBe(before);
  });
});
