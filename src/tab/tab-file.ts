/**
 * Reads /etc/pcache/tab: a line for each cache, with its name, cache device, backing device and options, after
 * crypttab(5) and with the escapes of fstab(5). Pure. The generator for systemd (share/systemd/pcache-generator) reads
 * the same file without this: it leaves out lines that it cannot read, and leaves it to `pcache tab attach` to refuse
 * options.
 */
import { nameProblem, pathProblem, readOptions, type TabEntry } from './tab-entry.js';

export type TabSeverity = 'error' | 'warning';

/** Something that is wrong with a line, or may be at the next boot. */
export interface TabProblem {
  readonly severity: TabSeverity;
  /** Number of the line, from 1. */
  readonly line: number;
  /** Name of the cache; null where the line does not give one. */
  readonly name: string | null;
  /** What is wrong, and the remedy. */
  readonly text: string;
}

export interface Tab {
  readonly entries: readonly TabEntry[];
  readonly problems: readonly TabProblem[];
}

/** What cannot be written as it is, by its octal code. */
const ESCAPES: Readonly<Record<string, string>> = { '040': ' ', '011': '\t', '043': '#', '054': ',', '134': '\\' };
const FIELDS = ['name', 'cache device', 'backing device', 'options'];

class LineError extends Error {}

/** Reads the whole file. A line that is wrong gives problems, and no entry. */
export function readTab(text: string): Tab {
  const entries: TabEntry[] = [];
  const problems: TabProblem[] = [];
  const lines = new Map<string, number>();
  for (const [at, content] of text.split('\n').entries()) {
    const line = at + 1;
    const fields = content.split(/[ \t]+/).filter((field) => field !== '');
    if (fields.length === 0 || fields[0].startsWith('#')) continue;
    const name = nameProblem(fields[0]) === undefined ? fields[0] : null;
    const report = (what: string) => problems.push({ severity: 'error', line, name, text: what });
    const first = lines.get(fields[0]);
    if (first !== undefined) {
      report(`${fields[0]} is in line ${first} already; give another name`);
      continue;
    }
    lines.set(fields[0], line);
    const read = readLine(content, fields, line);
    if (Array.isArray(read)) read.forEach(report);
    else entries.push(read);
  }
  return { entries, problems };
}

function readLine(content: string, fields: readonly string[], line: number): TabEntry | string[] {
  if (content.endsWith('\r')) return ['the line ends with a carriage return; end lines with a line feed alone'];
  if (/[\x00-\x08\x0a-\x1f\x7f]/.test(content)) return ['has a control character; remove it'];
  if (fields.length < FIELDS.length) {
    return [`has no ${FIELDS[fields.length]}; write NAME CACHE BACKING OPTIONS, with \\040 for a space in a path`];
  }
  if (fields.length > FIELDS.length) {
    return ['has more than four fields; write \\040 for a space, and comments on lines of their own'];
  }
  const [name, cache, backing, options] = fields;
  try {
    const cachePath = unescaped(cache);
    const backingPath = unescaped(backing);
    const read = readOptions(options.split(',').map(unescaped));
    const problems = [nameProblem(name), pathProblem(cachePath), pathProblem(backingPath)].filter(
      (one) => one !== undefined,
    );
    if (cachePath === backingPath) problems.push('cache and backing device are the same; give two');
    if (Array.isArray(read)) problems.push(...read);
    if (problems.length > 0 || Array.isArray(read)) return problems;
    return { name, line, cachePath, backingPath, ...read };
  } catch (error) {
    if (error instanceof LineError) return [error.message];
    throw error;
  }
}

function unescaped(field: string): string {
  return field.replace(/\\([0-7]{0,3})/g, (escape, code: string) => {
    const char = ESCAPES[code];
    if (char !== undefined) return char;
    throw new LineError(
      `${escape} is not an escape; write \\040 for a space, \\011 for a tab, \\043 for #, \\054 for a comma, \\134 for a backslash`,
    );
  });
}
