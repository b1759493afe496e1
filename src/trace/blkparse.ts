/**
 * blkparse's text in its default format: `MAJ,MIN CPU SEQUENCE SECONDS.NANOSECONDS PID ACTION RWBS`, and for a
 * request `SECTOR + SECTORS`. The same requests come of it as of the recording that it was made from.
 */
import { Char } from './cursor.js';
import type { Cursor } from './cursor.js';
import { END_OF_TRACE, NOT_A_RECORD } from './lines.js';
import type { LineFormat } from './lines.js';
import { deviceName } from './record.js';
import { SECTOR_BYTES } from './sink.js';
import type { RequestSink } from './sink.js';
import { TraceFlag, TraceOp } from './types.js';
import type { TraceAction } from './types.js';
import type { ReorderWindow } from './window.js';

const MINORS = 2 ** 20;
const SECOND_NS = 1e9;

const LETTER = { queue: 0x51, issue: 0x44, complete: 0x43 } as const;
const Rwbs = { A: 0x41, D: 0x44, F: 0x46, M: 0x4d, N: 0x4e, R: 0x52, S: 0x53, W: 0x57 } as const;
/** `CPU0 (sda):` and `Total (sda):` begin the summary; blkparse names its files before the first event. */
const SUMMARY = /^(?:CPU\d+ \(|Total \(|Throughput \(|Events \()/;
const PREAMBLE = /^Input file /;

export class BlkparseFormat implements LineFormat {
  readonly label = 'blkparse text';
  readonly #letter: number;
  // What the RWBS of the line says; -1 for an operation that is no request.
  #op = -1;
  #flags = 0;
  #flush = false;

  constructor(action: TraceAction) {
    this.#letter = LETTER[action];
  }

  take(line: Cursor, sink: RequestSink, window: ReorderWindow): string | undefined {
    const start = line.at;
    line.skipBlanks();
    const major = line.digits();
    if (major < 0 || !line.skip(Char.comma)) return this.#otherLine(line, start);
    const minor = line.digits();
    line.skipBlanks();
    const cpu = line.digits();
    line.skipBlanks();
    const sequence = line.digits();
    line.skipBlanks();
    const seconds = line.digits();
    const dotted = line.skip(Char.dot);
    const nanosecondsAt = line.at;
    const nanoseconds = line.digits();
    const isTime = dotted && line.at - nanosecondsAt === 9;
    line.skipBlanks();
    const pid = line.digits();
    if (minor < 0 || cpu < 0 || sequence < 0 || seconds < 0 || !isTime || pid < 0) {
      return 'it does not begin with device, CPU, sequence, time and process';
    }
    line.skipBlanks();
    const letter = line.peek();
    const actionAt = line.at;
    line.skipWord();
    if (line.at === actionAt) return 'it has no action';
    this.#countAction(line.at - actionAt === 1 ? letter : -1, sink);
    if (line.at - actionAt !== 1 || letter !== this.#letter) {
      if (letter === 0x6d && line.at - actionAt === 1) sink.counts.notify++;
      else sink.counts.otherActions++;
      return undefined;
    }
    if (major >= 4096 || minor >= MINORS) return 'its device has impossible numbers';
    const device = sink.devices.indexOfNumber(major * MINORS + minor, deviceName);
    if (!sink.wants(device)) return undefined;
    const timeNs = seconds * SECOND_NS + nanoseconds;
    return this.#takeRequest(line, sink, window, device, timeNs, sequence);
  }

  #countAction(letter: number, sink: RequestSink): void {
    if (letter === LETTER.queue) sink.actions.queue++;
    else if (letter === LETTER.issue) sink.actions.issue++;
    else if (letter === LETTER.complete) sink.actions.complete++;
  }

  #otherLine(line: Cursor, start: number): string {
    line.at = line.end;
    const text = line.text(start);
    if (SUMMARY.test(text)) return END_OF_TRACE;
    return PREAMBLE.test(text) ? NOT_A_RECORD : 'it does not begin with a device';
  }

  #takeRequest(
    line: Cursor,
    sink: RequestSink,
    window: ReorderWindow,
    device: number,
    timeNs: number,
    sequence: number,
  ): string | undefined {
    line.skipBlanks();
    if (!this.#readRwbs(line)) return 'its RWBS is none';
    line.skipBlanks();
    const sector = line.digits();
    if (sector >= 0) line.skipBlanks();
    if (sector < 0 || !line.skip(Char.plus)) return this.#takeBare(line, sink, window, device, timeNs, sequence);
    line.skipBlanks();
    const sectors = line.digits();
    if (sectors < 0) return 'it has no number of sectors';
    line.skipBlanks();
    // What follows is the process or the error, and before it, with -t, the time since the last action.
    if (line.peek() !== Char.bracket && line.peek() !== Char.parenthesis) return 'it is cut after its sectors';
    if (this.#op < 0) return 'it neither reads nor writes nor discards';
    const bytes = sectors * SECTOR_BYTES;
    const wrong = sink.request(window, device, timeNs, sequence, this.#op, this.#flags, sector * SECTOR_BYTES, bytes);
    if (wrong === undefined) this.#countError(line, sink);
    return wrong;
  }

  /** Completions end in their error: `[0]`. */
  #countError(line: Cursor, sink: RequestSink): void {
    if (this.#letter !== LETTER.complete) return;
    line.skipTo(Char.bracket);
    if (line.skip(Char.bracket) && line.peek() !== Char.zero) sink.counts.failed++;
  }

  /** An event without `+ SECTORS`: a flush, the completion of a flush's carrier, or a command with its bytes. */
  #takeBare(
    line: Cursor,
    sink: RequestSink,
    window: ReorderWindow,
    device: number,
    timeNs: number,
    sequence: number,
  ): string | undefined {
    if (line.peek() !== Char.bracket && line.peek() !== Char.parenthesis) return 'it has neither sectors nor an end';
    if (this.#flush) {
      const flags = this.#flags & ~TraceFlag.preflush;
      const wrong = sink.request(window, device, timeNs, sequence, TraceOp.flush, flags, 0, 0);
      this.#countError(line, sink);
      return wrong;
    }
    if (line.peek() === Char.parenthesis && this.#letter !== LETTER.complete) sink.counts.passthrough++;
    else sink.counts.skippedZeroLength++;
    return undefined;
  }

  #readRwbs(line: Cursor): boolean {
    let flags = 0;
    this.#flush = line.skip(Rwbs.F);
    if (this.#flush) flags |= TraceFlag.preflush;
    const letter = line.peek();
    line.at++;
    if (letter === Rwbs.R) this.#op = TraceOp.read;
    else if (letter === Rwbs.W) this.#op = TraceOp.write;
    else if (letter === Rwbs.D) this.#op = TraceOp.discard;
    else if (letter === Rwbs.N) this.#op = -1;
    else return false;
    for (; !line.atEnd && line.peek() !== Char.space; line.at++) {
      const flag = line.peek();
      if (flag === Rwbs.F) flags |= TraceFlag.fua;
      else if (flag === Rwbs.A) flags |= TraceFlag.ahead;
      else if (flag === Rwbs.S) flags |= TraceFlag.sync;
      else if (flag === Rwbs.M) flags |= TraceFlag.meta;
    }
    this.#flags = flags;
    return true;
  }
}
