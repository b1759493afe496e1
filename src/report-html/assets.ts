/**
 * What is put into every report: its style sheet, its script, and the chart library with its licence. They are read
 * where they stand: the library in its package, ours in `src/report-html/page`, from the sources and from `dist` alike.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const PAGE_FOLDER = new URL('../../src/report-html/page/', import.meta.url);
/** Classic scripts that share one scope; in the order of their use. */
const SCRIPTS = ['format.js', 'chart.js', 'lines.js', 'map.js', 'main.js'];

export interface PageAssets {
  readonly styles: string;
  readonly script: string;
}

export function pageAssets(): PageAssets {
  const library = dirname(createRequire(import.meta.url).resolve('uplot/package.json'));
  // A browser reads CR LF as LF, and the hash of the script is of what it reads.
  const ofLibrary = (...path: string[]) =>
    readFileSync(join(library, ...path), 'utf8')
      .replaceAll('\r\n', '\n')
      .trim();
  const ours = (name: string) => readFileSync(new URL(name, PAGE_FOLDER), 'utf8');
  const licence = `/*\nuPlot\n${ofLibrary('LICENSE')}\n*/`;
  const scripts = SCRIPTS.map(ours).join('\n');
  return {
    styles: `${ofLibrary('dist', 'uPlot.min.css')}\n${ours('page.css')}`,
    script: `\n${licence}\n${ofLibrary('dist', 'uPlot.iife.min.js')}\n(function () {\n'use strict';\n${scripts}})();\n`,
  };
}
