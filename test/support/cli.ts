/** Runs the command line as a user does. */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** The program as it is installed. `fresh-bundle.ts` sees to it that it is made from the sources as they are. */
export const PCACHE = `${root}bundle/pcache.cjs`;
/** The program of the checkout, which takes five times as long to start: it loads `dist/` file by file. */
export const CHECKOUT = `${root}bin/run.js`;
/** Its commands end in every way there is; see `sample-cli/`. */
export const SAMPLE_CLI = `${root}test/support/sample-cli/run.js`;

export interface CliResult {
  /** Exit status; null when a signal ended it. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions {
  readonly entry?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Called with the running process, and again whenever it said something on standard error. */
  readonly onStderr?: (child: ChildProcess, stderr: string) => void;
  /** Called with the process once it runs. */
  readonly onStart?: (child: ChildProcess) => void;
  /** A file that its standard input comes from; nothing otherwise. */
  readonly stdinFrom?: string;
  /** A file that its standard output goes to, instead of the result. */
  readonly stdoutTo?: string;
  /** Closes the reading end of its standard output after that many bytes. */
  readonly readOnlyBytes?: number;
}

/** Runs `pcache` with `args` and waits for its end. */
export async function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  if (!existsSync(PCACHE)) throw new Error('there is no bundle; run: npm run setup');
  const stdoutFd = options.stdoutTo === undefined ? undefined : openSync(options.stdoutTo, 'w');
  const stdinFd = options.stdinFrom === undefined ? undefined : openSync(options.stdinFrom, 'r');
  const child = spawn(process.execPath, [options.entry ?? PCACHE, ...args], {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: [stdinFd ?? 'ignore', stdoutFd ?? 'pipe', 'pipe'],
  });
  if (stdoutFd !== undefined) closeSync(stdoutFd);
  if (stdinFd !== undefined) closeSync(stdinFd);
  options.onStart?.(child);
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    if (stdout.length >= (options.readOnlyBytes ?? Infinity)) child.stdout?.destroy();
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    options.onStderr?.(child, stderr);
  });
  const [status, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, by) => {
      resolve([code, by]);
    });
  });
  return { status, signal, stdout, stderr };
}
