/**
 * The process's streams as commands see them: what is a terminal, whether colour is wanted, and a standard
 * output that a closed pipe ends quietly. Invariants: after EPIPE nothing more is written and every later
 * `write` throws `OutputClosedError`, so that a command unwinds through its own `finally` blocks.
 */

import { PcacheError } from '../engine/errors.js';

/** Standard output was closed by its reader (`pcache … | head`). Not an error: the command just ends. */
export class OutputClosedError extends Error {
  constructor() {
    super('standard output was closed');
    this.name = 'OutputClosedError';
  }
}

/** Where results go. */
export interface Output {
  readonly isTerminal: boolean;
  /**
   * Bytes must stay as they are until `drained()` resolves.
   * @returns false when the stream wants the caller to wait for `drained()`. @throws OutputClosedError
   */
  write(data: string | Uint8Array): boolean;
  /** Resolves when more can be written. @throws OutputClosedError */
  drained(): Promise<void>;
}

/** An `Output` over a stream. */
export class StreamOutput implements Output {
  private closed = false;
  private failure: PcacheError | undefined;
  /** The failure was thrown, so the writer knows of it. */
  private told = false;

  constructor(private readonly stream: NodeJS.WriteStream | NodeJS.WritableStream) {}

  /** Takes care of the stream's errors from now on. To be called once, before the first write. */
  listen(): this {
    this.stream.on('error', (error: NodeJS.ErrnoException) => this.fail(error));
    return this;
  }

  private fail(error: NodeJS.ErrnoException): void {
    this.closed = true;
    if (error.code === 'EPIPE') return;
    this.failure ??= new PcacheError('IO', `standard output: ${error.message}; the result is incomplete`, {
      cause: error,
    });
  }

  get isTerminal(): boolean {
    return 'isTTY' in this.stream && this.stream.isTTY;
  }

  write(data: string | Uint8Array): boolean {
    this.check();
    try {
      return this.stream.write(data);
    } catch (error) {
      // A file is written at once, and a full disk throws from here.
      this.fail(error as NodeJS.ErrnoException);
    }
    this.check();
    return false;
  }

  async drained(): Promise<void> {
    this.check();
    if (!('writableNeedDrain' in this.stream) || !this.stream.writableNeedDrain) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.stream.removeListener('drain', done);
        this.stream.removeListener('error', done);
        this.stream.removeListener('close', done);
        resolve();
      };
      this.stream.once('drain', done);
      this.stream.once('error', done);
      this.stream.once('close', done);
    });
    this.check();
  }

  /** Resolves when everything written has left the process, or the reader is gone. @throws what the stream failed with, unless a write has */
  async flushed(): Promise<void> {
    if (!this.closed) {
      await new Promise<void>((resolve) => {
        this.stream.write('', () => {
          resolve();
        });
      });
    }
    if (this.failure !== undefined && !this.told) this.tell(this.failure);
  }

  private check(): void {
    if (this.failure !== undefined) this.tell(this.failure);
    if (this.closed) throw new OutputClosedError();
  }

  private tell(failure: PcacheError): never {
    this.told = true;
    throw failure;
  }
}

const COLUMNS_DEFAULT = 80;
const COLUMNS_MIN = 40;

/** Width of a text for this stream: COLUMNS if it is set, else the terminal's, else 80; at least 40. */
export function terminalColumns(stream: { readonly columns?: number }, environment: NodeJS.ProcessEnv): number {
  const wanted = Number.parseInt(environment['COLUMNS'] ?? '', 10);
  const columns = wanted > 0 ? wanted : (stream.columns ?? 0);
  return columns > 0 ? Math.max(columns, COLUMNS_MIN) : COLUMNS_DEFAULT;
}

/** Is colour wanted on this stream? A terminal, no NO_COLOR (any non-empty value), and not TERM=dumb. */
export function wantsColour(isTerminal: boolean, environment: NodeJS.ProcessEnv): boolean {
  return isTerminal && (environment['NO_COLOR'] ?? '') === '' && environment['TERM'] !== 'dumb';
}

/** The few styles that reports use; with `colour` off every one of them returns its text unchanged. */
export interface Style {
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  green(text: string): string;
  yellow(text: string): string;
}

export function makeStyle(colour: boolean): Style {
  const wrap = (open: number, close: number) => (text: string) =>
    colour ? `\x1b[${open}m${text}\x1b[${close}m` : text;
  return { bold: wrap(1, 22), dim: wrap(2, 22), red: wrap(31, 39), green: wrap(32, 39), yellow: wrap(33, 39) };
}

/** Lets timers, signals and finished I/O run; for loops that compute for long. */
export function breathe(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
