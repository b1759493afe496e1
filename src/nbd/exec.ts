/** Runs a user's command beside the server, with where to connect in its environment. */
import { spawn, type ChildProcess } from 'node:child_process';
import { constants } from 'node:os';
import { fromSystemError } from '../engine/errors.js';

export interface CommandEnd {
  /** As a shell has it: 128 and the signal's number when one ended it. */
  readonly status: number;
}

export interface CommandOptions {
  /** For `sh -c`. */
  readonly command: string;
  readonly variables: Readonly<Record<string, string>>;
  /** Its standard output goes to standard error: ours is for the result alone. */
  readonly outputToStderr: boolean;
  /** When it resolves the command is asked to end, with every process of its group. */
  readonly stopped: Promise<void>;
  /** When it resolves the command is killed. */
  readonly hurried: Promise<void>;
  readonly signalGroup: SignalGroup;
}

/** Sends a signal, or with 0 none, to a process group. @throws the system's error when there is no such group */
export type SignalGroup = (pid: number, signal: NodeJS.Signals | 0) => void;

/** How long processes of the command that outlive it may take to end. */
const GROUP_GRACE_MS = 2_000;

/**
 * Resolves when the command has ended. It inherits the environment and the standard streams, and gets a process
 * group of its own: what it has started ends with it.
 */
export async function runCommand(options: CommandOptions): Promise<CommandEnd> {
  const { command, variables, outputToStderr, stopped, hurried } = options;
  const signal = (name: NodeJS.Signals | 0) => isSignalled(options.signalGroup, child, name);
  const assignments = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
  // "env" adds to the environment, which this layer does not know.
  const child = spawn('env', [...assignments, 'sh', '-c', command], {
    stdio: ['inherit', outputToStderr ? 2 : 'inherit', 'inherit'],
    detached: true,
  });
  void stopped.then(() => signal('SIGTERM'));
  void hurried.then(() => signal('SIGKILL'));
  const end = await new Promise<CommandEnd>((resolve, reject) => {
    child.on('error', (error) => reject(fromSystemError(error, command, 'running it')));
    child.on('exit', (status, by) => {
      resolve({ status: by === null ? (status ?? 0) : 128 + constants.signals[by] });
    });
  });
  await endGroup(signal);
  return end;
}

/** @returns whether there was a process to get the signal. */
function isSignalled(signalGroup: SignalGroup, child: ChildProcess, signal: NodeJS.Signals | 0): boolean {
  if (child.pid === undefined) return false;
  try {
    signalGroup(child.pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** Ends what the command has left running. */
async function endGroup(signal: (name: NodeJS.Signals | 0) => boolean): Promise<void> {
  if (!signal('SIGTERM')) return;
  for (let waitedMs = 0; waitedMs < GROUP_GRACE_MS; waitedMs += 50) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (!signal(0)) return;
  }
  signal('SIGKILL');
}
