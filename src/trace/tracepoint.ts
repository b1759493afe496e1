/**
 * The kernel's block events as text: of tracefs (`trace`, `trace_pipe`), `trace-cmd report` and `perf script`, where a
 * line has the time, the event's name and `MAJ,MIN RWBS … SECTOR + SECTORS`; and of ftrace's `blk` tracer, which has
 * `MAJ,MIN ACTION RWBS SECTOR + SECTORS` instead. Events of other subsystems may stand between them.
 */
import { Char } from './cursor.js';
import type { Cursor } from './cursor.js';
import { NOT_A_RECORD } from './lines.js';
import type { LineFormat } from './lines.js';
import { deviceName } from './record.js';
import { Rwbs } from './rwbs.js';
import { SECTOR_BYTES } from './sink.js';
import type { RequestSink } from './sink.js';
import type { TraceAction } from './types.js';
import type { ReorderWindow } from './window.js';

const MAJORS = 4096;
const MINORS = 2 ** 20;
const SECOND_NS = 1e9;

const EVENTS: Readonly<Record<string, TraceAction | 'requeue'>> = {
  block_bio_queue: 'queue',
  block_rq_issue: 'issue',
  block_rq_complete: 'complete',
  block_rq_requeue: 'requeue',
};
const LETTERS: Readonly<Record<string, TraceAction | 'requeue'>> = {
  Q: 'queue',
  D: 'issue',
  C: 'complete',
  R: 'requeue',
};

const BLOCK_EVENT = /\s(\d+)\.(\d{6,9}):\s+(?:\d+\s+)?(?:block:)?(block_\w+):\s+/;
const OTHER_EVENT = /\s\d+\.\d{6,9}:\s+(?:\d+\s+)?[\w:-]+:/;
const BLK_EVENT = /\s\[\d+\]\s.*?\s(\d+)\.(\d{6,9}):\s+(?=\d+,\d+\s+[A-Z]{1,2}\s)/;
const LOST = /LOST (\d+) EVENTS|lost (\d+) (?:events|chunks)/i;
const HEADER = /^(?:#|cpus=|version =|CPU \d+ is empty)/;

/** perf script prints call chains below an event: an address and a function. */
const CALL_CHAIN = /^\s+[0-9a-f]{6,16} \S/;

/** How a line of either kind looks; the time, and what it is. */
export const TRACEPOINT_LINE = new RegExp(`${BLOCK_EVENT.source}\\d+,\\d+\\s`);
export const BLK_TRACER_LINE = BLK_EVENT;

export class TracepointFormat implements LineFormat {
  readonly label: string;
  readonly #action: TraceAction;
  readonly #isBlkTracer: boolean;
  readonly #rwbs = new Rwbs();
  #originSeconds = Number.NaN;
  #lost = 0;

  constructor(kind: 'tracepoints' | 'ftrace-blk', action: TraceAction) {
    this.#isBlkTracer = kind === 'ftrace-blk';
    this.label = this.#isBlkTracer ? "text of ftrace's blk tracer" : 'tracepoints as text';
    this.#action = action;
  }

  take(line: Cursor, sink: RequestSink, window: ReorderWindow): string | undefined {
    const text = Buffer.from(line.bytes.subarray(line.at, line.end)).toString('latin1');
    const match = (this.#isBlkTracer ? BLK_EVENT : BLOCK_EVENT).exec(text);
    if (match === null) return this.#otherLine(text, sink);
    line.at += match.index + match[0].length;
    const what = this.#isBlkTracer ? this.#blkAction(line, text) : EVENTS[match[3]];
    if (what === 'queue' || what === 'issue' || what === 'complete') sink.actions[what]++;
    const isRequeue = what === 'requeue' && this.#action === 'issue';
    if (what !== this.#action) {
      sink.counts.otherActions++;
      if (!isRequeue) return undefined;
    }
    const major = line.digits();
    if (major < 0 || !line.skip(Char.comma)) return 'it has no device';
    const minor = line.digits();
    if (minor < 0) return 'it has no device';
    if (major >= MAJORS || minor >= MINORS) return 'its device has impossible numbers';
    const device = sink.devices.indexOfNumber(major * MINORS + minor, deviceName);
    const timeNs = this.#timeNs(Number(match[1]), match[2]);
    if (this.#isBlkTracer) {
      line.skipBlanks();
      line.skipWord(); // the action
    }
    if (isRequeue) return this.#requeue(line, sink, window, device, timeNs);
    return sink.wants(device) ? this.#takeRequest(line, sink, window, device, timeNs) : undefined;
  }

  warnings(): readonly string[] {
    return this.#lost === 0 ? [] : [`its recorder lost ${this.#lost} events; record with a larger buffer`];
  }

  #otherLine(text: string, sink: RequestSink): string {
    const lost = LOST.exec(text);
    if (lost !== null) {
      this.#lost += Number(lost[1] ?? lost[2]);
      return NOT_A_RECORD;
    }
    if (HEADER.test(text) || text.trim() === '') return NOT_A_RECORD;
    if (OTHER_EVENT.test(text)) {
      sink.counts.records++;
      sink.counts.otherActions++;
      return NOT_A_RECORD;
    }
    if (CALL_CHAIN.test(text)) return NOT_A_RECORD;
    return 'it is not an event with a time';
  }

  #blkAction(line: Cursor, text: string): TraceAction | 'requeue' | undefined {
    const found = /\d+,\d+\s+([A-Z]{1,2})\s/.exec(text.slice(text.length - (line.end - line.at)));
    return found === null ? undefined : LETTERS[found[1]];
  }

  #timeNs(seconds: number, fraction: string): number {
    if (Number.isNaN(this.#originSeconds)) this.#originSeconds = seconds;
    return (seconds - this.#originSeconds) * SECOND_NS + Number(fraction) * 10 ** (9 - fraction.length);
  }

  #requeue(line: Cursor, sink: RequestSink, window: ReorderWindow, device: number, timeNs: number): undefined {
    line.skipBlanks();
    if (!this.#rwbs.read(line)) return undefined;
    const range = this.#range(line);
    if (range !== undefined) this.#rwbs.requeue(sink, window, device, timeNs, 0, range.sector * SECTOR_BYTES);
    return undefined;
  }

  #takeRequest(
    line: Cursor,
    sink: RequestSink,
    window: ReorderWindow,
    device: number,
    timeNs: number,
  ): string | undefined {
    line.skipBlanks();
    if (!this.#rwbs.read(line)) return 'its RWBS is none';
    const range = this.#range(line);
    if (range === undefined) return 'it has no sector and number of sectors';
    const { sector, sectors, hasCommand, failed } = range;
    const { selected } = sink.counts;
    const wrong = this.#rwbs.deliver(
      sink,
      window,
      device,
      timeNs,
      0,
      sector * SECTOR_BYTES,
      sectors * SECTOR_BYTES,
      hasCommand,
    );
    if (failed && sink.counts.selected > selected) sink.counts.failed++;
    return wrong;
  }

  /** `BYTES (COMMAND) SECTOR + SECTORS`, of which the first two may be missing, and the error of a completion. */
  #range(line: Cursor): { sector: number; sectors: number; hasCommand: boolean; failed: boolean } | undefined {
    const rest = Buffer.from(line.bytes.subarray(line.at, line.end)).toString('latin1');
    const match = /^\s*(?:\d+\s+)?(?:\(([^)]*)\)\s+)?(\d+)(?:\s+\+\s+(\d+))?\s(?:.*\[(-?\d+)\]\s*$)?/.exec(`${rest} `);
    if (match === null) {
      // The blk tracer prints a flush without sectors, and a command in parentheses.
      const bare = this.#isBlkTracer ? /^\s*(?:\d+\s+)?(\(.+\)\s*)?\[/.exec(rest) : null;
      return bare === null ? undefined : { sector: 0, sectors: 0, hasCommand: bare[1] !== undefined, failed: false };
    }
    const [, command = '', sector, sectors = '0', error = '0'] = match;
    return {
      sector: Number(sector),
      sectors: Number(sectors),
      hasCommand: command.trim() !== '',
      failed: this.#action === 'complete' && Number(error) !== 0,
    };
  }
}
