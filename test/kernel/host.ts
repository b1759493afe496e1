/** What these tests do on this side of the virtual machine: our commands, and our engine in a process of its own. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { runCli } from '../support/cli.js';
import type { EngineJob, EngineReport } from '../support/engine-process.js';
import { makeImageFolder } from '../support/kernel.js';
import { runnable } from '../support/run-ts.js';
import { bytesOfIds, contentsOf, decodeAcks, idsOf } from './ledger.js';
import type { Workload } from './requests.js';

const SECTOR_BYTES = 512;
const ENGINE_PATIENCE_MS = 240_000;

/** Two images in a temporary folder. */
export class Images {
  readonly folder = makeImageFolder();
  readonly cache = join(this.folder, 'cache.img');
  readonly backing = join(this.folder, 'backing.img');
  /** What the backing image holds at first: write 0 in every sector. */
  readonly initialIds: Int32Array;

  constructor(readonly deviceSectors: number) {
    this.initialIds = new Int32Array(deviceSectors);
    writeFileSync(this.backing, contentsOf(this.initialIds));
  }

  /** A cache device of zeroes, as new. */
  blankCache(sizeBytes: number): void {
    const fd = openSync(this.cache, 'w');
    ftruncateSync(fd, sizeBytes);
    closeSync(fd);
  }

  /** Bytes of the backing image itself, as ids. */
  backingIds(): Int32Array {
    return idsOf(readFileSync(this.backing));
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function pcache(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await runCli(args);
  expect({ status, stderr }, `pcache ${args[0]}`).toEqual({ status: 0, stderr: '' });
  return stdout;
}

export async function format(images: Images, ...flags: string[]): Promise<void> {
  await pcache('format', images.cache, ...flags);
}

export async function grow(images: Images, ...flags: string[]): Promise<void> {
  await pcache('grow', images.cache, ...flags);
}

/** Moves the cache onto another device of that size, which takes its place. */
export async function moveCache(images: Images, sizeBytes: number): Promise<void> {
  const target = join(images.folder, 'moved.img');
  await pcache('move', images.cache, target, '--size', String(sizeBytes));
  renameSync(target, images.cache);
}

/** The kernel's status line as `pcache info` predicts it. */
export async function predictedStatus(images: Images): Promise<string> {
  const { status } = JSON.parse(await pcache('info', images.cache, images.backing, '--json')) as { status: string };
  return status;
}

/** Demands that `pcache fsck` finds nothing. */
export async function expectSound(images: Images): Promise<void> {
  const { status, stdout, stderr } = await runCli(['fsck', images.cache, images.backing]);
  expect(status, `pcache fsck:\n${stdout}${stderr}`).toBe(0);
}

export interface Logical {
  readonly sha256: string;
  readonly ids: Int32Array;
}

/** The logical device as `pcache cat` gives it. Demands that neither image is changed by it. */
export async function logicalDevice(images: Images): Promise<Logical> {
  const target = join(images.folder, 'logical');
  const before = [statSync(images.cache).mtimeMs, statSync(images.backing).mtimeMs];
  const { status, stderr } = await runCli(['cat', images.cache, images.backing], { stdoutTo: target });
  expect({ status, stderr }, 'pcache cat').toEqual({ status: 0, stderr: '' });
  expect([statSync(images.cache).mtimeMs, statSync(images.backing).mtimeMs]).toEqual(before);
  const bytes = readFileSync(target);
  rmSync(target);
  expect(bytes.length).toBe(images.deviceSectors * SECTOR_BYTES);
  return { sha256: createHash('sha256').update(bytes).digest('hex'), ids: idsOf(bytes) };
}

export interface EngineRunOptions {
  readonly slots: number;
  readonly workload?: Workload;
  readonly gcPercent?: number;
  readonly stopBeforeSegmentEnd?: number;
  readonly holdWritebackAfter?: number;
  readonly ending: 'close' | 'drain' | 'kill';
  /** Kill when so many requests have ended; for `kill`. */
  readonly killAt?: number;
  /** Wait so long before the kill, for ksets to be closed by age and write-back to go on. */
  readonly killDelayMs?: number;
}

export interface EngineRunResult {
  /** Requests that had ended. */
  readonly acked: number;
  /** Undefined when it was killed. */
  readonly report: EngineReport | undefined;
}

/** The most requests that `EngineRunResult.acked` may be behind a killed engine. */
export const ENGINE_IN_FLIGHT = 8;

/** Runs the engine on the images, whose sectors hold `ids`, in a process of its own. */
export async function runEngine(images: Images, ids: Int32Array, options: EngineRunOptions): Promise<EngineRunResult> {
  const acks = join(images.folder, 'acks');
  const versions = join(images.folder, 'versions');
  rmSync(acks, { force: true });
  writeFileSync(versions, bytesOfIds(ids));
  const { killAt, killDelayMs, ending, ...rest } = options;
  const { cache, backing } = images;
  const untilKilled = killDelayMs ? 'hang' : 'freeze';
  const job: EngineJob = { ...rest, cache, backing, acks, versions, ending: ending === 'kill' ? untilKilled : ending };
  const child = spawn(process.execPath, [runnable('test/support/engine-process.ts'), JSON.stringify(job)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ended = new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve(signal ?? code));
  });
  const readAcked = () => decodeAcks(existsSync(acks) ? readFileSync(acks) : undefined, 1)[0];
  const giveUp = setTimeout(() => child.kill('SIGKILL'), ENGINE_PATIENCE_MS);
  if (ending === 'kill') {
    while (child.exitCode === null && readAcked() < (killAt ?? 0)) await sleep(1);
    await sleep(killDelayMs ?? 0);
    child.kill('SIGKILL');
  }
  const end = await ended;
  clearTimeout(giveUp);
  expect({ end, stderr }, 'the engine process').toEqual({ end: ending === 'kill' ? 'SIGKILL' : 0, stderr: '' });
  const report = ending === 'kill' ? undefined : (JSON.parse(stdout) as EngineReport);
  if (report !== undefined) expect(report.wrongSectors, 'sectors that our engine read wrong').toBe(0);
  return { acked: readAcked(), report };
}

/** What the guest's `replay metadata` saves, from an image: 20 KiB, then the first 16 KiB of each segment. */
export function metadataOf(image: string, segments: number): Buffer {
  const bytes = Buffer.alloc((5 + 4 * segments) * 4096);
  const fd = openSync(image, 'r');
  try {
    readSync(fd, bytes, 0, 5 * 4096, 0);
    for (let s = 0; s < segments; s++) readSync(fd, bytes, (5 + 4 * s) * 4096, 4 * 4096, (5 + 4096 * s) * 4096);
  } finally {
    closeSync(fd);
  }
  return bytes;
}
