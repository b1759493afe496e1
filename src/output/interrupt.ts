/**
 * Signals. Every signal whose default ends the process asks the command to stop. Without a callback the default
 * holds: the process ends at once, even inside a loop that never yields. With one, the first signal asks the command to
 * stop (its `run` must then end by itself, leaving a consistent cache); the second kills, unless a callback wants to
 * hear of it, and then the third. A shell sees 128 and the signal's number, unless the command says that it ended
 * in order.
 *
 * SIGUSR1 would open Node's inspector, to every user of the machine: `bin/run.js` takes it away before anything else.
 */
import { constants } from 'node:os';

/** @param times how often a signal has come: 1 for the first. */
export type InterruptCallback = (times: number) => void | Promise<void>;

const STOP_SIGNALS = [
  ...(['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGPWR'] as const),
  ...(['SIGUSR2', 'SIGALRM', 'SIGVTALRM', 'SIGIO', 'SIGXCPU'] as const),
] as const;
type StopSignal = (typeof STOP_SIGNALS)[number];

export interface SignalSource {
  on(signal: StopSignal, listener: (signal: StopSignal) => void): unknown;
  removeListener(signal: StopSignal, listener: (signal: StopSignal) => void): unknown;
}

export interface InterruptOptions {
  /** The callback hears of the second signal too. */
  readonly hearsSecond?: boolean;
  /** What is said at the first signal. */
  readonly note?: string;
}

interface Registered extends InterruptOptions {
  readonly callback: InterruptCallback;
}

export class Interrupts {
  private readonly callbacks: Registered[] = [];
  private received: StopSignal | undefined;
  private times = 0;
  private callbackFailure: Error | undefined;
  private settled: Promise<void> = Promise.resolve();
  /** The command was asked to stop and did so as it is meant to: the signal does not decide the exit status. */
  endedInOrder = false;

  /**
   * @param note says that the first signal was heard.
   * @param kill ends the process by this signal.
   */
  constructor(
    private readonly source: SignalSource,
    private readonly note: (text: string) => void,
    private readonly kill: (signal: StopSignal) => void,
  ) {}

  /** The exit status that an interrupted command ends with; undefined when it was not, or ended in order. */
  get status(): number | undefined {
    if (this.received === undefined || this.endedInOrder) return undefined;
    return 128 + constants.signals[this.received];
  }

  /** A signal has come. */
  get isInterrupted(): boolean {
    return this.received !== undefined;
  }

  /** Registers `callback` for the first signal. @returns takes it back. */
  add(callback: InterruptCallback, options: InterruptOptions = {}): () => void {
    if (this.callbacks.length === 0) this.listen();
    this.callbacks.push({ callback, ...options });
    return () => {
      const index = this.callbacks.findIndex((registered) => registered.callback === callback);
      if (index >= 0) this.callbacks.splice(index, 1);
      if (this.callbacks.length === 0) this.release();
    };
  }

  /** After the command has ended: waits for callbacks under way and lets go of the signals. @throws what a callback threw */
  async close(): Promise<void> {
    await this.settled;
    this.callbacks.length = 0;
    this.release();
    if (this.callbackFailure !== undefined) throw this.callbackFailure;
  }

  private listen(): void {
    for (const signal of STOP_SIGNALS) this.source.on(signal, this.receive);
  }

  private release(): void {
    for (const signal of STOP_SIGNALS) this.source.removeListener(signal, this.receive);
  }

  private readonly receive = (signal: StopSignal): void => {
    this.times++;
    const called = this.callbacks.filter(({ hearsSecond }) => this.times === 1 || hearsSecond === true);
    if (this.times > 2 || called.length === 0) {
      this.release();
      this.kill(signal);
      return;
    }
    if (this.times === 1) {
      this.received = signal;
      const own = called.find(({ note }) => note !== undefined)?.note;
      this.note(own ?? 'interrupted: stopping; interrupt again to exit at once');
    }
    this.settled = Promise.all([this.settled, this.callAll(called, this.times)]).then(() => undefined);
  };

  private async callAll(called: readonly Registered[], times: number): Promise<void> {
    for (const { callback } of [...called].reverse()) {
      try {
        await callback(times);
      } catch (error) {
        this.callbackFailure ??= error instanceof Error ? error : new Error(String(error));
      }
    }
  }
}
