/** Loads /etc/pcache/tab, or another file in its place. */
import { readFileSync } from 'node:fs';
import { fromSystemError, PcacheError } from '../engine/errors.js';
import type { TabEntry } from './tab-entry.js';
import { readTab, type Tab } from './tab-file.js';

/** @throws PcacheError when the file cannot be read; what is wrong with its lines is in the result */
export function loadTab(path: string): Tab {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw fromSystemError(error, path, 'reading it');
  }
  return readTab(text);
}

/** @throws PcacheError USAGE when the file has no such cache, or its line is wrong */
export function loadEntry(path: string, name: string): TabEntry {
  const { entries, problems } = loadTab(path);
  const wrong = problems.find((problem) => problem.name === name);
  if (wrong !== undefined) throw new PcacheError('USAGE', `${path}:${wrong.line}: ${name}: ${wrong.text}`);
  const entry = entries.find((one) => one.name === name);
  if (entry !== undefined) return entry;
  const names = entries.map((one) => one.name).join(', ');
  throw new PcacheError(
    'USAGE',
    `${path}: has no cache ${name}; ${names === '' ? 'it lists none' : `it lists ${names}`}`,
  );
}
