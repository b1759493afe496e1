/** `pcache attach` as a process, for tests that drive it with real clients. */
import { execFile, type ChildProcess } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'vitest';
import type { AttachResult } from '../../src/nbd/attach.js';
import { runCli, type CliResult } from '../support/cli.js';

const MIB = 1024 * 1024;
/** `PCACHE_NBD_JOBS=N` serves with so many threads where a test does not say how many. */
const JOBS = process.env['PCACHE_NBD_JOBS'];
export const BACKING_BYTES = 256 * MIB;

/** Creates an empty file of that size, over what was there. */
export function sparseFile(path: string, bytes: number): string {
  rmSync(path, { force: true });
  const fd = openSync(path, 'w');
  ftruncateSync(fd, bytes);
  closeSync(fd);
  return path;
}

/** A freshly formatted cache of 512 MiB and an empty backing device, in `folder`. */
export async function makeDevices(folder: string, formatFlags: readonly string[] = [], backingBytes = BACKING_BYTES) {
  const cache = join(folder, 'cache.img');
  rmSync(cache, { force: true });
  const format = await runCli(['format', cache, '--size', '512MiB', ...formatFlags]);
  expect(format.stderr).toBe('');
  return { cache, backing: sparseFile(join(folder, 'backing.img'), backingBytes) };
}

export interface Attached {
  readonly child: ChildProcess;
  readonly socket: string;
  readonly uri: string;
  /** Ends it by a signal and waits. */
  stop(signal?: NodeJS.Signals): Promise<CliResult>;
  /** As `stop`, for one started with --json: checks that it ended in order. */
  result(): Promise<AttachResult>;
}

const running = new Set<ChildProcess>();

/** Ends what a test that failed has left running. */
export function killAll(): void {
  for (const child of running) child.kill('SIGKILL');
  running.clear();
}
process.on('exit', killAll);

/** Attaches, and resolves when clients can connect. @throws Error when it ends before that */
export async function attach(folder: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Attached> {
  const socket = join(folder, 'pc.sock');
  let child: ChildProcess | undefined;
  let ended: Promise<CliResult> | undefined;
  const uri = await new Promise<string>((resolve, reject) => {
    const jobs =
      JOBS === undefined || args.some((arg) => arg === '--jobs' || arg === '--read-only') ? [] : ['--jobs', JOBS];
    ended = runCli(['attach', ...args, ...jobs, '--socket', socket, '--json'], {
      env,
      onStart: (started) => {
        child = started;
        running.add(started);
      },
      onStderr: (_, stderr) => {
        const serving = /^pcache: serving .* at (nbd\S+)$/m.exec(stderr);
        if (serving) resolve(serving[1]);
      },
    });
    ended.then((end) => reject(new Error(`attach ended: ${end.stderr}`)), reject);
  });
  const stop = async (signal: NodeJS.Signals = 'SIGTERM') => {
    child!.kill(signal);
    const end = await ended!;
    running.delete(child!);
    return end;
  };
  return {
    child: child!,
    socket,
    uri,
    stop,
    result: async () => {
      const end = await stop();
      expect(end).toMatchObject({ status: 0, signal: null });
      return JSON.parse(end.stdout) as AttachResult;
    },
  };
}

const exec = promisify(execFile);

/** Runs a client; its output. @throws when it fails */
export async function client(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await exec(program, args, { maxBuffer: 64 * MIB });
  return stdout;
}
