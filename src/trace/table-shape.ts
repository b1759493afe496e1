/** Finds out how the lines of a table are divided into fields, and which of the known tables it is. */
import { Char, Cursor } from './cursor.js';
import { FieldReader } from './field-reader.js';
import { headerColumns } from './table.js';
import type { TableDefinition } from './types.js';
import { KNOWN_TABLES } from './table-definitions.js';

/** Separators in the order in which they are tried. */
const SEPARATORS = [Char.comma, Char.semicolon, Char.tab, Char.bar, Char.space] as const;
/** A table is one when this share of the lines looks like it: the last may be cut, a malformed one may be anywhere. */
const FITTING_SHARE = 0.5;

export function fieldsOf(line: string, separator: number): string[] {
  const bytes = Buffer.from(line, 'latin1');
  const cursor = new Cursor();
  cursor.set(bytes, 0, bytes.length);
  return new FieldReader(separator).all(cursor);
}

function withoutEmptyEnd(fields: readonly string[]): readonly string[] {
  let end = fields.length;
  while (end > 0 && fields[end - 1] === '') end--;
  return fields.slice(0, end);
}

/** The separator that divides most of the lines, each into as many fields. */
export function separatorOf(lines: readonly string[]): number {
  let best: number = Char.comma;
  let bestLines = 0;
  for (const separator of SEPARATORS) {
    const byCount = new Map<number, number>();
    for (const line of lines) {
      const { length } = fieldsOf(line, separator);
      if (length > 1) byCount.set(length, (byCount.get(length) ?? 0) + 1);
    }
    const most = Math.max(0, ...byCount.values());
    if (most > bestLines) [best, bestLines] = [separator, most];
  }
  return best;
}

export interface TableShape {
  readonly definition: TableDefinition;
  readonly separator: number;
}

/** The known table that the lines are of: by a header if there is one, else by what most lines look like. */
export function tableShapeOf(lines: readonly string[]): TableShape | undefined {
  const separator = separatorOf(lines);
  const fields = lines.map((line) => fieldsOf(line, separator));
  const byHeader = KNOWN_TABLES.find(({ definition }) =>
    fields.some((names) => headerColumns(definition, names) !== undefined),
  );
  if (byHeader !== undefined) return { definition: byHeader.definition, separator };
  const trimmed = fields.map(withoutEmptyEnd);
  const fitting = KNOWN_TABLES.filter(
    ({ looks }) =>
      looks !== undefined && trimmed.filter((line) => looks(line, separator)).length >= FITTING_SHARE * lines.length,
  );
  return fitting.length === 1 ? { definition: fitting[0].definition, separator } : undefined;
}
