/**
 * A table as its user describes it: `--columns time=1:ms,op=2:W/R,offset=3:sectors,length=4:bytes`, with the lines to
 * skip at the beginning and the separator; or the name of such a description in a JSON file.
 */
import { readFileSync } from 'node:fs';
import { fromSystemError, PcacheError } from '../engine/errors.js';
import type { Column, ColumnRole, TableDefinition } from './types.js';
import { COMMON_OPS } from './table-definitions.js';
import { TraceOp } from './types.js';

const TIME_UNITS: Readonly<Record<string, number>> = { 's': 1e9, 'ms': 1e6, 'us': 1e3, '100ns': 100, 'ns': 1 };
const LENGTH_UNITS: Readonly<Record<string, number>> = {
  bytes: 1,
  sectors: 512,
  kib: 1024,
  blocks: 4096,
  mib: 2 ** 20,
};
const ROLES: readonly ColumnRole[] = ['time', 'op', 'offset', 'length', 'device'];
const SEPARATORS: Readonly<Record<string, number>> = {
  comma: 0x2c,
  tab: 0x09,
  semicolon: 0x3b,
  bar: 0x7c,
  space: 0x20,
};
/** A line of a table may have so many fields. */
const COLUMNS_MAX = 1000;
const EXAMPLE = 'for example time=1:ms,op=2:W/R,offset=3:sectors,length=4:bytes';

export interface ColumnsChoice {
  /** The columns, or the name of a definition in `file`. */
  readonly columns: string;
  readonly file?: string | undefined;
  readonly skipLines?: number | undefined;
  readonly separator?: string | undefined;
}

/** @throws PcacheError USAGE for what is not a description, and what reading the file throws */
export function tableOfColumns(choice: ColumnsChoice): TableDefinition {
  const { columns, skip, separator } = choice.file === undefined ? fromFlags(choice) : fromFile(choice, choice.file);
  const parts = columns.split(',').map((part) => part.trim());
  const byNumber = new Map<number, Column>();
  const ops = new Map<string, number>();
  for (const part of parts) addPart(part, byNumber, ops);
  const roles = new Set([...byNumber.values()].map(({ role }) => role));
  if (!roles.has('offset')) throw wrong(columns, 'no column holds the offset');
  const last = Math.max(...byNumber.keys());
  return {
    format: 'columns',
    label: 'table with given columns',
    columns: Array.from(
      { length: last },
      (_, i) => byNumber.get(i + 1) ?? ({ role: 'ignored', name: 'ignored', unit: 1 } as const),
    ),
    allowsMore: true,
    named: new Map(),
    required: [],
    ops: new Map([...COMMON_OPS, ...ops]),
    ...(roles.has('op') ? {} : { op: TraceOp.read }),
    ...(roles.has('length') ? {} : { lengthBytes: 4096 }),
    skipLines: skip,
    ...(separator === undefined ? {} : { separator: separatorOf(separator) }),
  };
}

function wrong(what: string, why: string): PcacheError {
  return new PcacheError('USAGE', `columns "${what}": ${why}; ${EXAMPLE}`);
}

function addPart(part: string, columns: Map<number, Column>, ops: Map<string, number>): void {
  const match = /^([a-z]+)=(\d{1,4})(?::(.+))?$/i.exec(part);
  if (match === null) throw wrong(part, 'a part must be NAME=NUMBER or NAME=NUMBER:UNIT');
  const role = ROLES.find((name) => name === match[1].toLowerCase());
  const number = Number(match[2]);
  if (role === undefined) throw wrong(part, `a column is one of ${ROLES.join(', ')}`);
  if (number < 1 || number > COLUMNS_MAX) throw wrong(part, 'columns are counted from 1');
  if (columns.has(number)) throw wrong(part, `column ${number} is given twice`);
  if (role !== 'device' && [...columns.values()].some((column) => column.role === role)) {
    throw wrong(part, `${role} is given twice`);
  }
  columns.set(number, { role, name: role, unit: unitOf(part, role, match[3], ops) });
}

function unitOf(part: string, role: ColumnRole, unit: string | undefined, ops: Map<string, number>): number {
  if (role === 'op') {
    if (unit !== undefined) for (const word of unit.split('/')) addWord(part, word, ops);
    return 1;
  }
  const units = role === 'time' ? TIME_UNITS : LENGTH_UNITS;
  if (unit === undefined) {
    if (role === 'device') return 1;
    throw wrong(part, `its unit is missing: one of ${Object.keys(units).join(', ')}`);
  }
  const found = units[unit.toLowerCase()] as number | undefined;
  if (role === 'device' || found === undefined) {
    throw wrong(
      part,
      role === 'device' ? 'a device has no unit' : `its unit is one of ${Object.keys(units).join(', ')}`,
    );
  }
  return found;
}

/** `R` and other words that mean themselves, or `0=read`. */
function addWord(part: string, text: string, ops: Map<string, number>): void {
  const [word, op] = text.toLowerCase().split('=', 2) as [string, string | undefined];
  const meaning = COMMON_OPS.get(op ?? word);
  if (meaning === undefined) {
    const why = op === undefined ? `what "${word}" does is not known` : `"${op}" is not an operation`;
    throw wrong(part, `${why}: say it as op=2:0=read/1=write`);
  }
  ops.set(word, meaning);
}

function separatorOf(text: string): number {
  const named = SEPARATORS[text.toLowerCase()] as number | undefined;
  if (named !== undefined) return named;
  if (text === '\\t') return SEPARATORS.tab;
  if (text.length === 1 && text.charCodeAt(0) < 0x7f && !/[0-9A-Za-z."-]/.test(text)) return text.charCodeAt(0);
  throw new PcacheError(
    'USAGE',
    `separator "${text}": give one character that is in no field, or one of ${Object.keys(SEPARATORS).join(', ')}`,
  );
}

interface Described {
  readonly columns: string;
  readonly skip: number;
  readonly separator: string | undefined;
}

function fromFlags({ columns, skipLines = 0, separator }: ColumnsChoice): Described {
  return { columns, skip: skipLines, separator };
}

/** `{ "NAME": { "columns": "…", "skip": 1, "separator": ";" } }` */
function fromFile(choice: ColumnsChoice, file: string): Described {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw fromSystemError(error, file, 'reading the definitions of tables');
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new PcacheError('USAGE', `${file}: not JSON (${(error as Error).message.split('\n')[0]})`);
  }
  const definitions = typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  const found = Object.hasOwn(definitions, choice.columns) ? definitions[choice.columns] : undefined;
  const { columns, skip = 0, separator } = (found ?? {}) as Record<string, unknown>;
  if (typeof columns !== 'string') {
    const names = Object.keys(definitions).join(', ');
    throw new PcacheError(
      'USAGE',
      `${file}: holds no definition "${choice.columns}" with "columns"; it holds ${names === '' ? 'none' : names}`,
    );
  }
  if (typeof skip !== 'number' || !Number.isSafeInteger(skip) || skip < 0) {
    throw new PcacheError('USAGE', `${file}: "skip" of ${choice.columns} must be a whole number from 0 on`);
  }
  if (separator !== undefined && typeof separator !== 'string') {
    throw new PcacheError('USAGE', `${file}: "separator" of ${choice.columns} must be a string`);
  }
  return { columns, skip: choice.skipLines ?? skip, separator: choice.separator ?? separator };
}
