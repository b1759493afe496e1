/** Runs a user's command beside the server, with where to connect in its environment. */
import { spawn } from 'node:child_process';
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
  /** When it resolves the command is asked to end. */
  readonly stopped: Promise<void>;
}

/** Resolves when the command has ended. It inherits the environment and the standard streams. */
export function runCommand({ command, variables, outputToStderr, stopped }: CommandOptions): Promise<CommandEnd> {
  const assignments = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
  // "env" adds to the environment, which this layer does not know.
  const child = spawn('env', [...assignments, 'sh', '-c', command], {
    stdio: ['inherit', outputToStderr ? 2 : 'inherit', 'inherit'],
  });
  void stopped.then(() => child.kill('SIGTERM'));
  return new Promise((resolve, reject) => {
    child.on('error', (error) => reject(fromSystemError(error, command, 'running it')));
    child.on('close', (status, signal) => {
      resolve({ status: signal === null ? (status ?? 0) : 128 + constants.signals[signal] });
    });
  });
}
