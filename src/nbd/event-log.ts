/**
 * Events of clients as lines of a log: one line of each kind in a while, the others counted, so that a client
 * cannot fill the log. Control characters from outside never reach a terminal.
 */

const PAUSE_MS = 10_000;
const TEXT_CHARS_MAX = 500;

/** Replaces control characters and bounds the length. */
export function printable(text: string): string {
  const clean = text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '?');
  return clean.length > TEXT_CHARS_MAX ? `${clean.slice(0, TEXT_CHARS_MAX)}…` : clean;
}

interface Kind {
  untilMs: number;
  suppressed: number;
}

export class EventLog {
  private readonly kinds = new Map<string, Kind>();

  constructor(
    private readonly write: (line: string) => void,
    private readonly nowMs: () => number,
  ) {}

  /** @param kind of a fixed set: it is remembered. */
  tell(kind: string, text: string): void {
    const now = this.nowMs();
    const known = this.kinds.get(kind);
    if (known && now < known.untilMs) {
      known.suppressed++;
      return;
    }
    const more = known && known.suppressed > 0 ? ` (and ${known.suppressed} more since the last such line)` : '';
    this.kinds.set(kind, { untilMs: now + PAUSE_MS, suppressed: 0 });
    this.write(`${printable(text)}${more}`);
  }
}
