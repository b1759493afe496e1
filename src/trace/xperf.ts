/**
 * The dump of Windows' `xperf -a dumper` (or `-a diskio -detail`'s source): events of all kinds, a line each, and at the
 * beginning a line that names the columns of each kind. Times are in microseconds, offsets and lengths hexadecimal.
 */
import type { Cursor } from './cursor.js';
import { shownText } from './field-reader.js';
import { NOT_A_RECORD } from './lines.js';
import type { LineFormat } from './lines.js';
import { Clock, wholeNumber, whyNot } from './number-field.js';
import type { RequestSink } from './sink.js';
import { TraceOp } from './types.js';
import type { ReorderWindow } from './window.js';

const MICROSECOND_NS = 1000;
const OPS = new Map<string, number>([
  ['diskread', TraceOp.read],
  ['diskwrite', TraceOp.write],
  ['diskflush', TraceOp.flush],
]);
export const XPERF_LINE = /^\s*(?:BeginHeader\s*$|Disk(?:Read|Write|Flush)(?:Init)?\s*,\s*(?:TimeStamp|\d+)\s*,)/;

const HEADER_MARK = /^\s*(?:(?:Begin|End)Header)?\s*$/;

interface Layout {
  readonly time: number;
  readonly offset: number;
  readonly length: number;
  readonly disk: number;
}

/** As Windows Performance Toolkit writes them; a header that says otherwise counts. */
const USUAL: Layout = { time: 1, offset: 5, length: 6, disk: 8 };
const USUAL_FLUSH: Layout = { time: 1, offset: -1, length: -1, disk: 6 };

export class XperfFormat implements LineFormat {
  readonly label = 'xperf DiskIO CSV';
  readonly #clock = new Clock(MICROSECOND_NS);
  readonly #layouts = new Map<number, Layout>([
    [TraceOp.read, USUAL],
    [TraceOp.write, USUAL],
    [TraceOp.flush, USUAL_FLUSH],
  ]);

  take(line: Cursor, sink: RequestSink, window: ReorderWindow): string | undefined {
    const text = Buffer.from(line.bytes.subarray(line.at, line.end)).toString('utf8');
    const fields = text.split(',').map((field) => field.trim());
    if (fields.length < 2) return HEADER_MARK.test(text) ? NOT_A_RECORD : 'it is not an event';
    const op = OPS.get(fields[0].toLowerCase());
    const isHeader = fields[1].toLowerCase() === 'timestamp';
    if (op === undefined) {
      if (!isHeader) {
        sink.counts.records++;
        sink.counts.otherActions++;
      }
      return NOT_A_RECORD;
    }
    if (isHeader) {
      this.#takeHeader(op, fields);
      return NOT_A_RECORD;
    }
    return this.#takeEvent(op, fields, sink, window);
  }

  #takeHeader(op: number, names: readonly string[]): void {
    const at = (name: string): number => names.findIndex((found) => found.toLowerCase() === name);
    this.#layouts.set(op, { time: 1, offset: at('byteoffset'), length: at('iosize'), disk: at('disknum') });
  }

  #takeEvent(op: number, fields: readonly string[], sink: RequestSink, window: ReorderWindow): string | undefined {
    const layout = this.#layouts.get(op)!;
    const timeNs = this.#clock.sinceText(fields[layout.time]);
    if (timeNs === undefined) return `its TimeStamp '${shownText(fields[layout.time])}' is not a number`;
    const disk = Buffer.from(fields[layout.disk] ?? '');
    if (op === TraceOp.flush) {
      const device = sink.devices.indexOfBytes(disk, 0, disk.length);
      return sink.wants(device) ? sink.request(window, device, timeNs, 0, op, 0, 0, 0) : undefined;
    }
    const found = [layout.offset, layout.length].map((at) => wholeNumber(fields[at] ?? ''));
    if (found[0] < 0) return `its ByteOffset '${shownText(fields[layout.offset] ?? '')}' ${whyNot(found[0])}`;
    if (found[1] < 0) return `its IOSize '${shownText(fields[layout.length] ?? '')}' ${whyNot(found[1])}`;
    const device = sink.devices.indexOfBytes(disk, 0, disk.length);
    return sink.wants(device) ? sink.request(window, device, timeNs, 0, op, 0, found[0], found[1]) : undefined;
  }
}
