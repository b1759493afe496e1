/** The order of imports below src/: which file imports which, and the circles among them. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import ts from 'typescript';

/** Imports of each file, type imports included; paths relative to the folder. */
export type ImportGraph = ReadonlyMap<string, readonly string[]>;

export function importGraphOf(folder: string): ImportGraph {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.ts'));
  return new Map(
    files.map((file) => {
      const { importedFiles } = ts.preProcessFile(readFileSync(join(folder, file), 'utf8'), true, true);
      const imports = importedFiles
        .filter(({ fileName }) => fileName.startsWith('.'))
        .map(({ fileName }) => relative(folder, join(folder, dirname(file), fileName)).replace(/\.js$/, '.ts'));
      return [file, imports];
    }),
  );
}

/**
 * Groups of files that import each other, directly or through others (strongly connected components of more than one
 * file, after Tarjan), each sorted by name.
 */
export function importCircles(graph: ImportGraph): string[][] {
  const order = new Map<string, number>();
  const lowest = new Map<string, number>();
  const open: string[] = [];
  const circles: string[][] = [];
  const visit = (file: string): void => {
    order.set(file, order.size);
    lowest.set(file, order.get(file)!);
    open.push(file);
    for (const imported of graph.get(file) ?? []) {
      if (!order.has(imported)) visit(imported);
      if (open.includes(imported)) lowest.set(file, Math.min(lowest.get(file)!, lowest.get(imported)!));
    }
    if (lowest.get(file) !== order.get(file)) return;
    const circle = open.splice(open.indexOf(file));
    if (circle.length > 1 || graph.get(file)?.includes(file)) circles.push(circle.sort());
  };
  for (const file of graph.keys()) if (!order.has(file)) visit(file);
  return circles;
}

/** Floors of the files: 0 imports nothing, every other file stands one above the highest that it imports. */
export function importFloors(graph: ImportGraph): string[][] {
  const floors = new Map<string, number>();
  const floorOf = (file: string): number => {
    const known = floors.get(file);
    if (known !== undefined) return known;
    floors.set(file, -1); // ends the way round a circle, which importCircles reports
    const floor = Math.max(-1, ...(graph.get(file) ?? []).map(floorOf)) + 1;
    floors.set(file, floor);
    return floor;
  };
  const drawn: string[][] = [];
  for (const file of [...graph.keys()].sort()) (drawn[floorOf(file)] ??= []).push(file);
  return drawn;
}
