/**
 * What biosnoop of bcc and libbpf-tools prints: a table whose columns stand under their names, of which a process's name
 * can have blanks and a disk's can be missing. So a line is read from its end, where every column is one word.
 */
import type { Cursor } from './cursor.js';
import { shownText } from './field-reader.js';
import { NOT_A_RECORD } from './lines.js';
import type { LineFormat } from './lines.js';
import { Clock, wholeNumber, whyNot } from './number-field.js';
import { SECTOR_BYTES } from './sink.js';
import type { RequestSink } from './sink.js';
import { TraceFlag, TraceOp } from './types.js';
import type { ReorderWindow } from './window.js';

const MILLISECOND_NS = 1e6;
const SECOND_NS = 1e9;
/** The kernel's number for no sector. */
const NO_SECTOR = 2 ** 64;

export const BIOSNOOP_HEADER = /^\s*TIME\((m?s)\)\s+(.*\bT\s+SECTOR\s+BYTES\b.*)$/;
/** bpftrace's has neither sector nor length. */
export const BIOSNOOP_WITHOUT_SECTORS = /^\s*TIME\(m?s\)\s+(?!.*\bSECTOR\b).*\bPID\b.*\bLAT\(/;

/** `R`, `WS`, `FF`: the same letters as RWBS, of which most versions print the first only. */
function opOf(letters: string): { op: number; flags: number } | undefined {
  if (!/^F?[RWDFN]?[A-Z]*$/.test(letters)) return undefined;
  const flush = letters.startsWith('F');
  const letter = flush ? letters[1] : letters[0];
  const flags = (flush ? TraceFlag.preflush : 0) | (letters.includes('S', 1) ? TraceFlag.sync : 0);
  if (letter === 'R') return { op: TraceOp.read, flags };
  if (letter === 'W') return { op: TraceOp.write, flags };
  if (letter === 'D') return { op: TraceOp.discard, flags };
  return flush ? { op: TraceOp.flush, flags: 0 } : undefined;
}

export class BiosnoopFormat implements LineFormat {
  readonly label = 'biosnoop text';
  #clock = new Clock(SECOND_NS);
  /** Words behind the letter of the operation, sector and length included. */
  #behind = 3;
  #hasHeader = false;

  take(line: Cursor, sink: RequestSink, window: ReorderWindow): string | undefined {
    const text = Buffer.from(line.bytes.subarray(line.at, line.end)).toString('latin1');
    const header = BIOSNOOP_HEADER.exec(text);
    if (header !== null) {
      this.#takeHeader(header[1], header[2]);
      return NOT_A_RECORD;
    }
    if (!this.#hasHeader) {
      return /^Tracing\b/.test(text) ? NOT_A_RECORD : 'it stands before the line that names the columns';
    }
    const words = text.trim().split(/\s+/);
    const at = words.length - 1 - this.#behind;
    if (at < 2) return `it has ${words.length} words, too few for its columns`;
    const operation = opOf(words[at]);
    if (operation === undefined) return `its T is '${shownText(words[at])}'`;
    const timeNs = this.#clock.sinceText(words[0]);
    if (timeNs === undefined) return `its TIME '${shownText(words[0])}' is not a number`;
    const [sector, bytes] = [wholeNumber(words[at + 1]), wholeNumber(words[at + 2])];
    if (sector < 0) return `its SECTOR '${shownText(words[at + 1])}' ${whyNot(sector)}`;
    if (bytes < 0) return `its BYTES '${shownText(words[at + 2])}' ${whyNot(bytes)}`;
    // Without a disk the process's number stands there.
    const disk = /^\d+$/.test(words[at - 1]) ? '' : words[at - 1];
    return this.#request(sink, window, disk, timeNs, operation, sector, bytes);
  }

  #request(
    sink: RequestSink,
    window: ReorderWindow,
    disk: string,
    timeNs: number,
    { op, flags }: { op: number; flags: number },
    sector: number,
    bytes: number,
  ): string | undefined {
    if (bytes === 0 && op !== TraceOp.flush) {
      sink.counts.skippedZeroLength++;
      return undefined;
    }
    const name = Buffer.from(disk, 'latin1');
    const device = sink.devices.indexOfBytes(name, 0, name.length);
    if (!sink.wants(device)) return undefined;
    if (op === TraceOp.flush) return sink.request(window, device, timeNs, 0, op, flags, 0, 0);
    if (sector >= NO_SECTOR) return 'it has no sector';
    return sink.request(window, device, timeNs, 0, op, flags, sector * SECTOR_BYTES, bytes);
  }

  #takeHeader(unit: string, rest: string): void {
    const names = rest.trim().split(/\s+/);
    this.#behind = names.length - 1 - names.indexOf('T');
    if (!this.#hasHeader) this.#clock = new Clock(unit === 'ms' ? MILLISECOND_NS : SECOND_NS);
    this.#hasHeader = true;
  }
}
