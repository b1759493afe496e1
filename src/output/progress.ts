/**
 * Progress of a long run on standard error: amount done, rate and time left. Silent unless
 * standard error is a terminal. Draws at most ten times a second and only from `update`, so it needs no timer
 * and works inside loops that never yield.
 */
import { assert } from '../engine/errors.js';
import { shown, SHOWS_UTF8 } from './charset.js';
import type makeSpinner from 'ora';
import type { Ora } from 'ora';
import { formatBytes, formatCount, formatDuration, formatPercent } from './units.js';

const DRAW_INTERVAL_NS = 100e6;
/** A rate is shown after this much time. */
const RATE_AFTER_NS = 500e6;

export interface ProgressOptions {
  /** The current work: `checking segments`. */
  readonly label: string;
  /** Total amount, in `unit`; left out when unknown. */
  readonly total?: number;
  /** `share`: the total is 1, and only the percentage is shown. */
  readonly unit: 'bytes' | 'count' | 'share';
  /** Plural of the counted things: `requests`. */
  readonly noun?: string;
}

export interface ProgressMore {
  /** Said behind the numbers. */
  readonly note?: string;
  /** Total amount from now on, in the unit of the options. */
  readonly total?: number;
}

export interface Progress {
  /** @param done amount done so far, in the unit of the options. */
  update(done: number, more?: ProgressMore): void;
  /** Clears the line. Must be called in every case. */
  stop(): void;
}

/**
 * The line itself, pure: `checking segments  12 of 31  38.7%  4 segments/s  5.00 s left`. A total is an estimate in places:
 * the share ends at 100%.
 */
export function progressText(options: ProgressOptions, done: number, elapsedNs: number, note = ''): string {
  const { label, unit, noun } = options;
  const total = unit === 'share' ? 1 : options.total;
  const amount = (value: number): string =>
    unit === 'bytes' ? formatBytes(Math.round(value)) : formatCount(Math.round(value));
  const parts = [label];
  if (unit !== 'share') parts.push(total === undefined ? amount(done) : `${amount(done)} of ${amount(total)}`);
  if (total !== undefined) parts.push(formatPercent(Math.min(done, total), total));
  if (elapsedNs >= RATE_AFTER_NS && done > 0) {
    const perSecond = done / (elapsedNs / 1e9);
    if (unit !== 'share') parts.push(`${amount(perSecond)}${noun === undefined ? '' : ` ${noun}`}/s`);
    const left = (total ?? done) - done;
    if (left > 0) parts.push(`${formatDuration((left / perSecond) * 1e9)} left`);
  }
  if (note !== '') parts.push(note);
  return parts.join('  ');
}

let library: { readonly default: typeof makeSpinner } | undefined;

/** Loads the library that draws, which most runs can do without. Before the first progress on a terminal. */
export async function loadProgress(): Promise<void> {
  library = await import('ora');
}

const SILENT: Progress = { update: () => undefined, stop: () => undefined };

class TerminalProgress implements Progress {
  private readonly startedNs: number;
  private drawnNs = -Infinity;
  private readonly spinner: Ora;

  constructor(
    stream: NodeJS.WritableStream,
    private options: ProgressOptions,
    private readonly nowNs: () => number,
    colour: boolean,
  ) {
    this.startedNs = nowNs();
    // The cursor and standard input stay as they are: hiding and discarding would install signal handlers.
    assert(library !== undefined, 'progress is drawn with a library that is not loaded');
    this.spinner = library.default({
      stream,
      hideCursor: false,
      discardStdin: false,
      isEnabled: true,
      ...(SHOWS_UTF8 ? {} : { spinner: 'line' as const }),
      color: colour ? 'cyan' : false,
    });
  }

  update(done: number, { note, total }: ProgressMore = {}): void {
    if (total !== undefined) this.options = { ...this.options, total };
    const now = this.nowNs();
    if (now - this.drawnNs < DRAW_INTERVAL_NS) return;
    this.drawnNs = now;
    this.spinner.text = shown(progressText(this.options, done, now - this.startedNs, note));
    this.spinner.render();
  }

  stop(): void {
    this.spinner.clear();
    this.drawnNs = Infinity;
  }
}

/** @param terminal the stream to draw on, or undefined for a progress that shows nothing. */
export function createProgress(
  terminal: NodeJS.WritableStream | undefined,
  options: ProgressOptions,
  colour = false,
  nowNs: () => number = () => performance.now() * 1e6,
): Progress {
  return terminal === undefined ? SILENT : new TerminalProgress(terminal, options, nowNs, colour);
}
