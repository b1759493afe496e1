/** No file of src/ imports itself through others. */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { importCircles, importFloors, importGraphOf } from '../support/import-order.js';

const SOURCES = fileURLToPath(new URL('../../src', import.meta.url));

describe('the order of imports below src/', () => {
  const graph = importGraphOf(SOURCES);

  it('holds every import of a file by a path that exists', () => {
    expect(graph.size).toBeGreaterThan(250);
    const missing = [...graph].flatMap(([file, imports]) =>
      imports.filter((imported) => !graph.has(imported)).map((imported) => `${file} imports ${imported}`),
    );
    expect(missing).toEqual([]);
  });

  it('has no circle', () => {
    expect(importCircles(graph).map((circle) => circle.join(' ↔ '))).toEqual([]);
  });

  it('puts every file on a floor above all that it imports', () => {
    const floors = importFloors(graph);
    const floorOf = new Map(floors.flatMap((files, floor) => files.map((file) => [file, floor] as const)));
    expect(floorOf.size).toBe(graph.size);
    for (const [file, imports] of graph)
      for (const imported of imports)
        expect(floorOf.get(imported), `${file} imports ${imported}`).toBeLessThan(floorOf.get(file)!);
    expect(floors[0]).toContain('engine/errors.ts');
  });
});

describe('importCircles', () => {
  const graphOf = (imports: Record<string, string[]>) => new Map(Object.entries(imports));

  it('finds two files that import each other, and a file that imports itself', () => {
    expect(importCircles(graphOf({ a: ['b'], b: ['a', 'c'], c: ['c'] }))).toEqual([['c'], ['a', 'b']]);
  });

  it('finds a circle through several files and leaves the files that lead to it out', () => {
    expect(importCircles(graphOf({ top: ['a'], a: ['b', 'low'], b: ['c'], c: ['a'], low: [] }))).toEqual([
      ['a', 'b', 'c'],
    ]);
  });

  it('takes two ways to one file for no circle', () => {
    expect(importCircles(graphOf({ a: ['b', 'c'], b: ['d'], c: ['d'], d: [] }))).toEqual([]);
  });
});
