/**
 * What every command is built on. A command declares its flags, makes one call and prints; streams, colour,
 * progress, signals and exit statuses are found here. Errors are thrown, never printed: `main.ts` reports
 * them. Invariants: with `--json` exactly one JSON document goes to standard output (what `run` returns),
 * and whatever is not the result goes to standard error.
 */
import type { Readable } from 'node:stream';
import { Command, Flags, type Interfaces } from '@oclif/core';
import { setNativeEnabled } from '../engine/device/native.js';
import { PcacheError } from '../engine/errors.js';
import type { CheckProgress } from '../fsck/check.js';
import type { ServiceManager } from '../nbd/service-manager.js';
import { shown } from './charset.js';
import { describeError } from './error-report.js';
import type { Task } from './help.js';
import type { InterruptCallback, InterruptOptions } from './interrupt.js';
import { createProgress, loadProgress, type Progress, type ProgressOptions } from './progress.js';
import { versioned } from './json.js';
import { theSession } from './session.js';
import { breathe, makeStyle, terminalColumns, wantsColour, type Output, type Style } from './terminal.js';

/** `PCACHE_NATIVE=off` does without the native helper; anything but `on`, `off` and nothing is refused. */
export function readNativeSwitch(environment: NodeJS.ProcessEnv): boolean {
  const value = environment['PCACHE_NATIVE'] ?? '';
  if (value === 'off') return false;
  if (value === '' || value === 'on') return true;
  throw new PcacheError('USAGE', `PCACHE_NATIVE is '${value}'; set it to on or off, or leave it unset`);
}

/** A word as a shell reads it, quoted only where it must be. */
export function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** sd_listen_fds(3): passed sockets begin here. */
const FIRST_PASSED_FD = 3;

/** How `runSteps` shows steps, and what it says when it ends them early. */
export interface StepsOptions extends ProgressOptions {
  /** Steps between two turns of the event loop, in which signals are heard. */
  readonly stepsPerTurn: number;
  /** Message of the error when the command is asked to stop: what is left behind. */
  readonly whenInterrupted: string;
}

/** How much is done, in the unit of the options; with the total where that is known only once the work has begun. */
export type Step = number | { readonly done: number; readonly total: number };

interface ParserInput {
  readonly args?: object;
  readonly baseFlags?: object;
  readonly enableJsonFlag?: boolean;
}

/**
 * oclif reads a missing argument from standard input, which belongs to others: a shell loop would lose the lines that it
 * reads, and `attach` would take one for its backing device.
 */
function withoutStdin<Input extends ParserInput>(input: Input): Input {
  const args = Object.entries(input.args ?? {}).map(([name, arg]) => [name, { ...(arg as object), ignoreStdin: true }]);
  // `input` may be a class, which inherits these: copying its own properties leaves them out.
  const { baseFlags, enableJsonFlag } = input;
  return { ...input, baseFlags, enableJsonFlag, args: Object.fromEntries(args) as unknown };
}

export abstract class PcacheCommand extends Command {
  /** A trace that is read through a pipe with a name. */
  private pipe: Readable | undefined;
  static override enableJsonFlag = true;
  /** Where the command stands in `pcache --help`; one of `TASKS`. */
  static task: Task | undefined;
  static override baseFlags = {
    json: Flags.boolean({ description: 'print the result as one JSON document', helpGroup: 'GLOBAL' }),
    quiet: Flags.boolean({
      char: 'q',
      description: 'print errors and warnings only; the exit status tells the result',
      helpGroup: 'GLOBAL',
    }),
  };

  /** May the native helper be used? False under `PCACHE_NATIVE=off`; the engine was told before `run`. */
  protected readonly nativeEnabled: boolean = readNativeSwitch(process.env);
  /** Standard output; for results only. Writes throw once the reader has left, which ends the command quietly. */
  protected readonly output: Output = theSession.output;
  /** Colours for standard output; plain when it is not a terminal or NO_COLOR is set. */
  protected readonly style: Style = makeStyle(wantsColour(theSession.output.isTerminal, process.env));

  private quiet = false;
  /** The document on standard output is that of another command. */
  private hasRunOther = false;

  protected override async parse<
    F extends Interfaces.OutputFlags<Interfaces.FlagInput>,
    B extends Interfaces.OutputFlags<Interfaces.FlagInput>,
    A extends Interfaces.OutputArgs<Interfaces.ArgInput>,
  >(options?: Interfaces.Input<F, B, A>, argv?: string[]): Promise<Interfaces.ParserOutput<F, B, A>> {
    const parsed = await super.parse(options && withoutStdin(options), argv);
    this.quiet = (parsed.flags as { readonly quiet?: boolean }).quiet === true;
    return parsed;
  }

  /** Runs another command; what it prints, and its exit status, are those of this one. */
  protected async runOther(id: string, args: readonly string[]): Promise<void> {
    this.hasRunOther = true;
    const everywhere = [...(this.jsonEnabled() ? ['--json'] : []), ...(this.quiet ? ['--quiet'] : [])];
    await this.config.runCommand(id, [...everywhere, ...args]);
  }

  /** @returns why another command would not take these arguments; undefined when it would */
  protected async usageProblem(
    command: Interfaces.Input<object, object, object>,
    argv: string[],
  ): Promise<string | undefined> {
    const own = this.argv;
    try {
      await super.parse(withoutStdin(command), argv);
      return undefined;
    } catch (error) {
      const report = describeError(error, '');
      if (report?.code !== 'USAGE') throw error;
      return report.message;
    } finally {
      this.argv = own; // which says whether JSON is wanted
    }
  }

  override async init(): Promise<void> {
    await super.init();
    setNativeEnabled(this.nativeEnabled);
    if (this.showsProgress) await loadProgress();
  }

  private get showsProgress(): boolean {
    // A terminal that does not know its width says 0, and the line could not be taken away from it again.
    return process.stderr.isTTY && process.stderr.columns > 0 && !this.jsonEnabled() && !this.quiet;
  }

  /** The command as it can be typed again in a shell. */
  protected get commandLine(): string {
    return ['pcache', ...(this.id ?? '').split(':'), ...this.argv].map(shellWord).join(' ');
  }

  /** Where device nodes are; DM_DEV_DIR as dmsetup(8) takes it. */
  protected get deviceFolder(): string {
    return process.env['DM_DEV_DIR'] ?? '/dev';
  }

  /** Standard input; opened when first asked for. */
  protected get input(): NodeJS.ReadStream {
    return process.stdin;
  }

  /** A pipe was opened by its name: `stopInput` ends it too. */
  protected readonly onPipe = (pipe: Readable): void => {
    this.pipe = pipe;
  };

  /** Ends standard input, or the pipe that is read: whatever waits for it fails with INTERRUPTED and this message. */
  protected stopInput(whenInterrupted: string): void {
    // Without a listener the error would end the process; nobody may be reading yet.
    (this.pipe ?? this.input).on('error', () => undefined).destroy(new PcacheError('INTERRUPTED', whenInterrupted));
  }

  /** Prints a part of the result; nothing with `--json` or `--quiet`. `text` ends its own lines. */
  protected print(text: string): void {
    if (!this.jsonEnabled() && !this.quiet) this.output.write(shown(text));
  }

  /** Width of standard output, columns. */
  protected get columns(): number {
    return terminalColumns(process.stdout, process.env);
  }

  /** Says something on standard error that is not the result. */
  protected note(text: string): void {
    theSession.note(text);
  }

  /** Progress on standard error: shown only when that is a terminal and `--json` is not given. */
  protected progress(options: ProgressOptions): Progress {
    return createProgress(this.showsProgress ? process.stderr : undefined, options, wantsColour(true, process.env));
  }

  /**
   * Progress of a check of the cache at `path`. Nothing is passed on where nothing is shown, since a check must walk the
   * log for its total.
   */
  protected checkProgress(path: string): { readonly onProgress: CheckProgress | undefined; stop(): void } {
    const progress = this.progress({ label: `checking ${path}`, unit: 'bytes' });
    const onProgress: CheckProgress = (bytesRead, total) => progress.update(bytesRead, { total });
    return { onProgress: this.showsProgress ? onProgress : undefined, stop: () => progress.stop() };
  }

  /** Processor time of this process so far, all its threads, ns. */
  protected readonly cpuNs = (): number => {
    const { user, system } = process.cpuUsage();
    return (user + system) * 1000;
  };

  /** The status to exit with when `run` ends by itself (see `ExitStatus`). */
  protected setExitStatus(status: number): void {
    theSession.exitStatus = status;
  }

  /**
   * On the first SIGINT, SIGTERM, SIGHUP or the like `callback` asks the work to stop; `run` must then end by itself,
   by returning (what it has is printed) or throwing. The exit status is 128 and the signal's number, unless
   * the command calls `endedInOrder`. A second signal kills, unless `callback` hears of it too.
   * Signals are only heard between turns of the event loop: a command that registers must yield (`breathe`).
   * @returns takes the callback back.
   */
  protected onInterrupt(callback: InterruptCallback, options?: InterruptOptions): () => void {
    return theSession.interrupts.add(callback, options);
  }

  /**
   * Takes `steps`, each of which yields how much is done, one after another, with progress and until the command is
   * asked to stop. The generator is ended in every case, so that its `finally` can clear away what is unfinished.
   * @returns what the generator returns
   * @throws PcacheError INTERRUPTED when asked to stop; whatever a step throws
   */
  protected async runSteps<T>(steps: Generator<Step, T>, options: StepsOptions): Promise<T> {
    const { stepsPerTurn, whenInterrupted, ...progressOptions } = options;
    const progress = this.progress(progressOptions);
    const release = this.onInterrupt(() => undefined);
    try {
      for (let count = 1; ; count++) {
        const step = steps.next();
        if (step.done) return step.value;
        const { value } = step;
        if (typeof value === 'number') progress.update(value);
        else progress.update(value.done, { total: value.total });
        if (count % stepsPerTurn === 0) await breathe();
        if (this.interrupted) throw new PcacheError('INTERRUPTED', whenInterrupted);
      }
    } finally {
      steps.return(undefined as T);
      release();
      progress.stop();
    }
  }

  /** Being asked to stop is how this command is meant to end: its exit status is its own. */
  protected endedInOrder(): void {
    theSession.interrupts.endedInOrder = true;
  }

  /** Threads wait for a device that does not answer: the process ends by SIGKILL once everything is said. */
  protected readonly leaveStuckThreads = (): void => {
    theSession.hasStuckThreads = true;
  };

  /** Sends a signal to a process group. @throws the system's error when there is none */
  protected readonly signalGroup = (pid: number, signal: NodeJS.Signals | 0): void => {
    process.kill(-pid, signal);
  };

  /**
   * Socket that a service manager has passed to this process (sd_listen_fds(3)); undefined without one.
   * @throws PcacheError USAGE for more than one: clients of the others would wait for ever
   */
  protected get passedSocket(): number | undefined {
    const { LISTEN_PID, LISTEN_FDS } = process.env;
    if (LISTEN_PID !== String(process.pid) || !(Number(LISTEN_FDS) >= 1)) return undefined;
    if (Number(LISTEN_FDS) === 1) return FIRST_PASSED_FD;
    throw new PcacheError('USAGE', `the service manager passes ${LISTEN_FDS} sockets (LISTEN_FDS); pass one`);
  }

  /** The service manager that wants to be told how this process does (sd_notify(3), sd_watchdog_enabled(3)). */
  protected get serviceManager(): ServiceManager | undefined {
    const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = process.env;
    if (NOTIFY_SOCKET === undefined || NOTIFY_SOCKET === '') return undefined;
    const isOurs = WATCHDOG_PID === undefined || WATCHDOG_PID === String(process.pid);
    const watchdogMs = isOurs && Number(WATCHDOG_USEC) > 0 ? Number(WATCHDOG_USEC) / 1000 : undefined;
    return { address: NOTIFY_SOCKET, watchdogMs };
  }

  /** Size of the terminal that standard output is; 80 by 24 where it does not say. */
  protected get terminalSize(): { readonly columns: number; readonly rows: number } {
    const { columns, rows } = process.stdout;
    return { columns: columns > 0 ? columns : 80, rows: rows > 0 ? rows : 24 };
  }

  /**
   * Calls back when "q" is pressed, where standard input and standard output are a terminal. Keys are not shown
   * meanwhile, and Ctrl-C interrupts as ever.
   * @returns gives the terminal back
   */
  protected onQuitKey(callback: () => void): () => void {
    const { stdin, stdout } = process;
    if (!stdin.isTTY || !stdout.isTTY || this.jsonEnabled()) return () => {};
    const onKeys = (keys: Buffer): void => {
      const text = keys.toString('latin1');
      if (text.includes('\x03')) process.kill(process.pid, 'SIGINT');
      else if (/[qQ]/.test(text)) callback();
    };
    stdin.setRawMode(true).on('data', onKeys).resume();
    return () => {
      stdin.off('data', onKeys).pause().setRawMode(false);
    };
  }

  /** Was the command asked to stop? */
  protected get interrupted(): boolean {
    return theSession.interrupts.isInterrupted;
  }

  override logJson(json: unknown): void {
    if (this.hasRunOther) return;
    this.output.write(`${JSON.stringify(versioned(json), null, 2)}\n`);
  }

  protected override catch(error: Error): Promise<never> {
    return Promise.reject(error);
  }
}
