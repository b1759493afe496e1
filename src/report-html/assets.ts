/**
 * What is put into every report: its style sheet, its script, and the chart library with its licence.
 */
import { layout } from '../layout/layout.js';

/** Classic scripts that share one scope; in the order of their use. */
const SCRIPTS = ['format.js', 'chart.js', 'lines.js', 'map.js', 'main.js'];

export interface PageAssets {
  readonly styles: string;
  readonly script: string;
}

export function pageAssets(): PageAssets {
  // A browser reads CR LF as LF, and the hash of the script is of what it reads.
  const ofLibrary = (name: string) => layout.pageFile(`uplot/${name}`).replaceAll('\r\n', '\n').trim();
  const licence = `/*\nuPlot\n${ofLibrary('LICENSE')}\n*/`;
  const scripts = SCRIPTS.map((name) => layout.pageFile(name)).join('\n');
  return {
    styles: `${ofLibrary('uPlot.min.css')}\n${layout.pageFile('page.css')}`,
    script: `\n${licence}\n${ofLibrary('uPlot.iife.min.js')}\n(function () {\n'use strict';\n${scripts}})();\n`,
  };
}
