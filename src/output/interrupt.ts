/**
 * SIGINT and SIGTERM. Without a callback the default holds: the process ends at once, even inside a loop that
 * never yields. With one, the first signal asks the command to stop (its `run` must then end by itself,
 * leaving a consistent cache) and the second kills. Either way a shell sees 130 (143 for SIGTERM).
 */

export type InterruptCallback = () => void | Promise<void>;

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;
type StopSignal = (typeof SIGNALS)[number];
const STATUS: Record<StopSignal, number> = { SIGINT: 130, SIGTERM: 143 };

export interface SignalSource {
  on(signal: StopSignal, listener: (signal: StopSignal) => void): unknown;
  removeListener(signal: StopSignal, listener: (signal: StopSignal) => void): unknown;
}

export class Interrupts {
  private readonly callbacks: InterruptCallback[] = [];
  private received: StopSignal | undefined;
  private callbackFailure: Error | undefined;
  private settled: Promise<void> = Promise.resolve();

  /**
   * @param note says that the first signal was heard.
   * @param kill ends the process by this signal, for the second one.
   */
  constructor(
    private readonly source: SignalSource,
    private readonly note: (text: string) => void,
    private readonly kill: (signal: StopSignal) => void,
  ) {}

  /** The exit status that an interrupted command ends with; undefined when it was not. */
  get status(): number | undefined {
    return this.received === undefined ? undefined : STATUS[this.received];
  }

  /** Registers `callback` for the first signal. @returns takes it back. */
  add(callback: InterruptCallback): () => void {
    if (this.callbacks.length === 0) for (const signal of SIGNALS) this.source.on(signal, this.receive);
    this.callbacks.push(callback);
    return () => {
      const index = this.callbacks.indexOf(callback);
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

  private release(): void {
    for (const signal of SIGNALS) this.source.removeListener(signal, this.receive);
  }

  private readonly receive = (signal: StopSignal): void => {
    if (this.received !== undefined) {
      this.release();
      this.kill(signal);
      return;
    }
    this.received = signal;
    this.note('interrupted: stopping; interrupt again to exit at once');
    this.settled = this.callAll();
  };

  private async callAll(): Promise<void> {
    for (const callback of [...this.callbacks].reverse()) {
      try {
        await callback();
      } catch (error) {
        this.callbackFailure ??= error instanceof Error ? error : new Error(String(error));
      }
    }
  }
}
