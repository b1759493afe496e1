/**
 * A command that goes into the background once it has started: the parent starts the same command again in a session
 * of its own, passes on what that says, and ends when the child has reported or ended.
 *
 * The child reports on a pipe of its own, named by an environment variable. From then on its standard output and
 * standard error are the log file.
 */
import { spawn } from 'node:child_process';
import { closeSync, constants as fsConstants, openSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { isSea } from 'node:sea';
import { nativeAddon } from '../engine/device/native.js';
import { fromSystemError } from '../engine/errors.js';

const REPORT_VARIABLE = 'PCACHE_BACKGROUND_FD';
const REPORT_FD = 3;
const LOG_FD = 4;

export type BackgroundStart<Report> =
  | { readonly kind: 'started'; readonly pid: number; readonly report: Report }
  | { readonly kind: 'failed'; readonly status: number; readonly stdout: string };

/** Is this process the child? */
export function isInBackground(): boolean {
  return process.env[REPORT_VARIABLE] === String(REPORT_FD);
}

/**
 * Opens the file that the child's output is added to, or what swallows it.
 * @throws PcacheError for what cannot be written
 */
function openLog(path: string | undefined): number {
  const { O_WRONLY, O_APPEND, O_CREAT, O_NONBLOCK } = fsConstants;
  try {
    // Without O_NONBLOCK a FIFO would wait for its reader.
    return openSync(path ?? '/dev/null', O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0o640);
  } catch (error) {
    throw fromSystemError(error, path ?? '/dev/null', 'opening the log file');
  }
}

/**
 * Runs this command again, in the background.
 * @param onStart receives what ends the child before it has reported
 * @throws PcacheError when it cannot be run
 */
export async function startInBackground<Report>(
  logFile: string | undefined,
  onStart: (end: () => void) => void,
): Promise<BackgroundStart<Report>> {
  const log = openLog(logFile);
  const words = process.argv.slice(2);
  // A single executable has its launcher in argv0; Node itself is none that could be run again.
  const [program, args] = isSea()
    ? [process.argv0, words]
    : [process.execPath, [...process.execArgv, process.argv[1], ...words]];
  const child = spawn(program, args, {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe', log],
    env: { ...process.env, [REPORT_VARIABLE]: String(REPORT_FD) },
  });
  closeSync(log);
  onStart(() => child.kill('SIGTERM'));
  let text = '';
  let stdout = '';
  child.stdout!.setEncoding('utf8').on('data', (piece: string) => (stdout += piece));
  child.stderr!.on('data', (piece: Uint8Array) => process.stderr.write(piece));
  const reports = child.stdio[REPORT_FD] as NodeJS.ReadableStream;
  reports.setEncoding('utf8').on('data', (piece: string) => (text += piece));
  const said = Promise.all([child.stdout!, child.stderr!, reports].map((stream) => ended(stream)));
  const end = await new Promise<number>((resolve, reject) => {
    child.on('error', (error) => reject(fromSystemError(error, program, 'running it in the background')));
    child.on('exit', (status, signal) => {
      resolve(signal === null ? (status ?? 0) : 128 + constants.signals[signal]);
    });
    // Only a child that has reported closes the pipes before its end.
    void said.then(() => {
      if (text.endsWith('\n')) resolve(0);
    });
  });
  if (!text.endsWith('\n')) {
    await said;
    return { kind: 'failed', status: end, stdout };
  }
  child.unref();
  return { kind: 'started', pid: child.pid!, report: JSON.parse(text) as Report };
}

function ended(stream: NodeJS.ReadableStream): Promise<void> {
  return new Promise((resolve) => {
    stream.on('end', resolve);
    stream.on('error', () => resolve());
  });
}

/** In the child: tells the parent that the start has succeeded. What is written from now on goes to the log file. */
export function reportStarted(report: object): void {
  delete process.env[REPORT_VARIABLE];
  const addon = nativeAddon();
  for (const fd of [1, 2]) addon.redirect(fd, LOG_FD);
  closeSync(LOG_FD);
  writeSync(REPORT_FD, `${JSON.stringify(report)}\n`);
  closeSync(REPORT_FD);
}
