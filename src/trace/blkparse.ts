/**
 * blkparse's text in its default format: `MAJ,MIN CPU SEQUENCE SECONDS.NANOSECONDS PID ACTION RWBS`, and for a
 * request `SECTOR + SECTORS`. The same requests come of it as of the recording that it was made from.
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

const LETTER = { queue: 0x51, issue: 0x44, complete: 0x43 } as const;
const REQUEUE = 0x52;
const MESSAGE = 0x6d;
/** Begins the summary: `CPU0 (sda):`, `Total (sda):`, with `-s` a process, `fio (4711)`. */
export const SUMMARY = /^(?:CPU\d+ \(|Total \(|Throughput \(|Events \(|\S.* \(\d+\)$)/;
/** blkparse names its files before the first event, on standard error. */
export const PREAMBLE = /^Input file /;

export class BlkparseFormat implements LineFormat {
  readonly label = 'blkparse text';
  readonly #letter: number;
  readonly #rwbs = new Rwbs();
  /** Behind the first line of a summary; the next event ends it, where several outputs are one behind the other. */
  #inSummary = false;

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
    this.#inSummary = false;
    line.skipBlanks();
    const actionAt = line.at;
    line.skipWord();
    if (line.at === actionAt) return 'it has no action';
    const action = line.at - actionAt === 1 ? line.bytes[actionAt] : -1;
    this.#countAction(action, sink);
    const isRequeue = action === REQUEUE && this.#letter === LETTER.issue;
    if (action !== this.#letter) {
      if (action === MESSAGE) sink.counts.notify++;
      else sink.counts.otherActions++;
      if (!isRequeue) return undefined;
    }
    if (major >= MAJORS || minor >= MINORS) return isRequeue ? undefined : 'its device has impossible numbers';
    const device = sink.devices.indexOfNumber(major * MINORS + minor, deviceName);
    const timeNs = seconds * SECOND_NS + nanoseconds;
    line.skipBlanks();
    if (isRequeue) {
      if (this.#rwbs.read(line)) {
        line.skipBlanks();
        const sector = line.digits();
        this.#rwbs.requeue(sink, window, device, timeNs, sequence, Math.max(0, sector) * SECTOR_BYTES);
      }
      return undefined;
    }
    return sink.wants(device) ? this.#takeRequest(line, sink, window, device, timeNs, sequence) : undefined;
  }

  #countAction(letter: number, sink: RequestSink): void {
    if (letter === LETTER.queue) sink.actions.queue++;
    else if (letter === LETTER.issue) sink.actions.issue++;
    else if (letter === LETTER.complete) sink.actions.complete++;
  }

  #otherLine(line: Cursor, start: number): string {
    line.at = line.end;
    const text = Buffer.from(line.bytes.subarray(start, line.end)).toString('latin1');
    if (SUMMARY.test(text)) this.#inSummary = true;
    return this.#inSummary || PREAMBLE.test(text) ? NOT_A_RECORD : 'it does not begin with a device';
  }

  #takeRequest(
    line: Cursor,
    sink: RequestSink,
    window: ReorderWindow,
    device: number,
    timeNs: number,
    sequence: number,
  ): string | undefined {
    const rwbs = this.#rwbs;
    if (!rwbs.read(line)) return 'its RWBS is none';
    line.skipBlanks();
    const sector = line.digits();
    let sectors = 0;
    if (sector >= 0) {
      line.skipBlanks();
      if (line.skip(Char.plus)) {
        line.skipBlanks();
        sectors = line.digits();
        if (sectors < 0) return 'it has no number of sectors';
        line.skipBlanks();
      }
    }
    // What follows is the process or the error, and before it a command, or with -t the time since the last action.
    const next = line.peek();
    if (next !== Char.bracket && next !== Char.parenthesis) {
      return sectors > 0 ? 'it is cut after its sectors' : 'it has neither sectors nor an end';
    }
    const hasCommand = sectors === 0 && next === Char.parenthesis && this.#letter !== LETTER.complete;
    const [offsetBytes, lengthBytes] = [Math.max(0, sector) * SECTOR_BYTES, sectors * SECTOR_BYTES];
    const selected = sink.counts.selected;
    const wrong = rwbs.deliver(sink, window, device, timeNs, sequence, offsetBytes, lengthBytes, hasCommand);
    if (sink.counts.selected > selected) this.#countError(line, sink);
    return wrong;
  }

  /** Completions end in their error: `[0]`. */
  #countError(line: Cursor, sink: RequestSink): void {
    if (this.#letter !== LETTER.complete) return;
    line.skipTo(Char.bracket);
    if (line.skip(Char.bracket) && line.peek() !== Char.zero) sink.counts.failed++;
  }
}
