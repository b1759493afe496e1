/**
 * The one run of this process: its standard output, its signals and the status it will exit with. A module
 * of its own because the process has only one of each.
 */
import { ExitStatus } from '../engine/errors.js';
import { shown } from './charset.js';
import { Interrupts } from './interrupt.js';
import { StreamOutput } from './terminal.js';

class Session {
  readonly output = new StreamOutput(process.stdout);
  readonly interrupts = new Interrupts(
    process,
    (text) => {
      this.note(text);
    },
    (signal) => process.kill(process.pid, signal),
  );
  exitStatus: number = ExitStatus.ok;
  /** Threads of this process wait for a device that does not answer: an ordinary exit would wait for them. */
  hasStuckThreads = false;

  /** Writes one line to standard error; a closed standard error is ignored. */
  note(text: string): void {
    this.writeError(`pcache: ${text}\n`);
  }

  writeError(text: string): void {
    process.stderr.write(shown(text));
  }
}

export const theSession = new Session();
