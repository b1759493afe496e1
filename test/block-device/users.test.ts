/** Users of a block device, as the end of an attach looks for them; over a loop device, which needs root. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { claimDevice, type Claim } from '../../src/block-device/device-users.js';

const folder = mkdtempSync(join(tmpdir(), 'pcache-users-'));
const loop = attachLoop();
let opener: ChildProcess | undefined;

afterEach(() => {
  opener?.kill('SIGKILL');
  opener = undefined;
});
afterAll(() => {
  if (loop !== undefined) execFileSync('losetup', ['--detach', loop]);
  rmSync(folder, { recursive: true, force: true });
});

/** A loop device of 1 MiB; undefined where none can be had. */
function attachLoop(): string | undefined {
  const file = join(folder, 'image');
  writeFileSync(file, '');
  truncateSync(file, 1 << 20);
  try {
    const output = execFileSync('losetup', ['--find', '--show', file], { stdio: ['ignore', 'pipe', 'ignore'] });
    return output.toString().trim();
  } catch {
    return undefined;
  }
}

/** Resolves to the claim once nothing else, such as udev, looks at the device. */
async function claimed(path: string): Promise<Claim> {
  for (let tries = 0; tries < 50; tries++) {
    const claim = await claimDevice(path, basename(path));
    if (typeof claim !== 'string') return claim;
    await sleep(50);
  }
  throw new Error(`${path} stays in use`);
}

const reason = loop === undefined ? ' (skipped: no loop device can be attached)' : '';
describe.skipIf(loop === undefined)(`a device that is claimed${reason}`, () => {
  it('can be claimed by nobody else until it is released', async () => {
    const claim = await claimed(loop!);
    expect(await claimDevice(loop!, basename(loop!))).toBe('in use by the kernel');
    await claim.sync();
    await claim.release();
    await (await claimed(loop!)).release();
  });

  it('is not claimed while a process has it open, which is named', async () => {
    await (await claimed(loop!)).release();
    opener = spawn('sh', ['-c', `exec 3<${loop!}; echo open; exec sleep 60`], { stdio: ['ignore', 'pipe', 'ignore'] });
    await new Promise((resolve) => opener!.stdout!.once('data', resolve));
    expect(await claimDevice(loop!, basename(loop!))).toMatch(
      new RegExp(`^open in pid ${String(opener.pid)} \\((sh|sleep)\\)$`),
    );
    const gone = new Promise((resolve) => opener!.once('exit', resolve));
    opener.kill('SIGKILL');
    await gone;
    await (await claimed(loop!)).release();
  });
});
