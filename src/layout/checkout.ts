/** The files of a checkout, for the sources and for `dist/` alike: both are two levels below the root. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freshModule } from './fresh-module.js';
import type { Layout } from './types.js';

const ROOT = new URL('../../', import.meta.url);
const requireHere = createRequire(import.meta.url);

const WORKERS = {
  bench: new URL('../bench/job-worker.js', import.meta.url),
  curve: new URL('../curve/worker.js', import.meta.url),
  serve: new URL('../nbd/serve-worker.js', import.meta.url),
};

const UPLOT_FILES: Readonly<Record<string, string>> = {
  'uplot/LICENSE': 'LICENSE',
  'uplot/uPlot.min.css': 'dist/uPlot.min.css',
  'uplot/uPlot.iife.min.js': 'dist/uPlot.iife.min.js',
};

export const checkout: Layout = {
  helperRemedy: 'build it with: npm run build:native',
  version: () => (requireHere(fileURLToPath(new URL('package.json', ROOT))) as { version: string }).version,
  useCompiledCode: () => undefined,
  loadAddon: () => requireHere(fileURLToPath(new URL('native/build/Release/pcache_native.node', ROOT))) as unknown,
  workerModule: (name) => WORKERS[name],
  pageFile: (name) => {
    const ofUplot = UPLOT_FILES[name];
    if (ofUplot === undefined) return readFileSync(new URL(`src/report-html/page/${name}`, ROOT), 'utf8');
    return readFileSync(join(dirname(requireHere.resolve('uplot/package.json')), ofUplot), 'utf8');
  },
  xzDecoder: () => freshModule(readFileSync(requireHere.resolve('xz-decompress'), 'utf8')),
};
