/** The output of `pcache tab check`: text and JSON. Pure. */
import { whereText } from '../tab/tab-check.js';
import type { TabEntry } from '../tab/tab-entry.js';
import type { TabProblem } from '../tab/tab-file.js';
import { renderTable } from './table.js';

export interface TabJson {
  readonly path: string;
  /** Lines that can be read. */
  readonly entries: readonly (TabEntry & {
    /** Path of the block device that the entry provides; null for one that is served at a socket only. */
    readonly device: string | null;
  })[];
  /** In the order of the lines. */
  readonly problems: readonly TabProblem[];
}

const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? '' : 's'}`;

export function tabText({ path, entries, problems }: TabJson): string {
  const rows = entries.map((entry) => [entry.name, entry.way, whereText(entry), startText(entry)]);
  const table = rows.length === 0 ? '' : renderTable(['NAME', 'BY', 'AT', 'START'], rows);
  const lines = problems.map(({ severity, line, name, text }) => {
    const about = name === null ? '' : `${name}: `;
    return `${path}:${line}: ${severity === 'warning' ? 'warning: ' : ''}${about}${text}\n`;
  });
  const errors = problems.filter(({ severity }) => severity === 'error').length;
  const summary = [count(entries.length, 'cache'), count(errors, 'error'), count(problems.length - errors, 'warning')];
  return `${table}${lines.join('')}${path}: ${summary.join(', ')}\n`;
}

function startText({ noauto, nofail }: TabEntry): string {
  if (noauto) return 'by hand';
  return nofail ? 'at boot, which goes on without it' : 'at boot';
}
