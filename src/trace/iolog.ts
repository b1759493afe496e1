/**
 * fio's iolog, versions 2 and 3: `FILE ACTION OFFSET LENGTH` in bytes, in version 3 with the time in front, in
 * version 2 with `FILE wait MILLISECONDS 0` in between: fio, other than its manual says, waits until that much time has
 * passed since the beginning. Files are devices here.
 */
import { shownText } from './field-reader.js';
import type { Cursor } from './cursor.js';
import { NOT_A_RECORD } from './lines.js';
import type { LineFormat } from './lines.js';
import type { RequestSink } from './sink.js';
import { TraceOp } from './types.js';
import type { ReorderWindow } from './window.js';

const MICROSECOND_NS = 1000;
const MILLISECOND_NS = 1e6;
const BANNER = /^fio version (\d+) iolog/;

/** The version of the iolog that begins with this line, or undefined when it is none. */
export function iologVersion(firstLine: string): number | undefined {
  const match = BANNER.exec(firstLine);
  return match === null ? undefined : Number(match[1]);
}

/** What is no operation of ours, by its name. */
const Action = { file: -1, wait: -2, unknown: -3 } as const;

export class IologFormat implements LineFormat {
  readonly label: string;
  readonly #timed: boolean;
  #waitedNs = 0;

  constructor(version: 2 | 3) {
    this.label = `fio iolog version ${version}`;
    this.#timed = version === 3;
  }

  take(line: Cursor, sink: RequestSink, window: ReorderWindow): string | undefined {
    const start = line.at;
    let timeNs = this.#waitedNs;
    if (this.#timed) {
      const microseconds = line.digits();
      if (microseconds < 0) return this.#isBanner(line, start) ? NOT_A_RECORD : 'it does not begin with a time';
      timeNs = microseconds * MICROSECOND_NS;
      line.skipBlanks();
    }
    const fileAt = line.at;
    line.skipWord();
    const fileEnd = line.at;
    line.skipBlanks();
    const actionAt = line.at;
    line.skipWord();
    const op = this.#actionOf(line, actionAt);
    if (op === Action.unknown) {
      const action = line.text(actionAt);
      return this.#isBanner(line, start) ? NOT_A_RECORD : `its action is '${shownText(action)}'`;
    }
    line.skipBlanks();
    if (op === Action.file) {
      if (!line.atEnd) return 'there is something behind its action';
      sink.counts.notify++;
      return undefined;
    }
    const first = line.digits();
    line.skipBlanks();
    const second = line.digits();
    if (first < 0 || second < 0) return 'it has no offset and length';
    line.skipBlanks();
    if (!line.atEnd) return 'there is something behind its length';
    if (op === Action.wait) {
      if (this.#timed) return 'version 3 knows no wait';
      this.#waitedNs = Math.max(this.#waitedNs, first * MILLISECOND_NS);
      sink.counts.notify++;
      return undefined;
    }
    const device = sink.devices.indexOfBytes(line.bytes, fileAt, fileEnd);
    if (!sink.wants(device)) return undefined;
    const isFlush = op === TraceOp.flush;
    return sink.request(window, device, timeNs, 0, op, 0, isFlush ? 0 : first, isFlush ? 0 : second);
  }

  #actionOf(line: Cursor, start: number): number {
    if (line.spells('write', start)) return TraceOp.write;
    if (line.spells('read', start)) return TraceOp.read;
    if (line.spells('sync', start) || line.spells('datasync', start)) return TraceOp.flush;
    if (line.spells('trim', start)) return TraceOp.discard;
    if (line.spells('wait', start)) return Action.wait;
    if (line.spells('add', start) || line.spells('open', start) || line.spells('close', start)) return Action.file;
    return Action.unknown;
  }

  #isBanner(line: Cursor, start: number): boolean {
    line.at = line.end;
    return iologVersion(line.text(start)) !== undefined;
  }
}
