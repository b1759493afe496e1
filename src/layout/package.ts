/** The files of the installed package: every chunk of the bundle is in `bundle/` itself. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { Layout } from './types.js';

/** Put in by the bundler. */
declare const PCACHE_VERSION: string;

const BUNDLE = new URL('./', import.meta.url);

export const installedPackage: Layout = {
  version: () => PCACHE_VERSION,
  loadAddon: () =>
    createRequire(import.meta.url)(
      fileURLToPath(new URL('../native/build/Release/pcache_native.node', BUNDLE)),
    ) as unknown,
  workerModule: (name) => new URL(`worker-${name}.js`, BUNDLE),
  pageFile: (name) => readFileSync(new URL(`page/${name}`, BUNDLE), 'utf8'),
};
