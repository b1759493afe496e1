/** The files of the installed package: every chunk of the bundle is in `bundle/` itself. */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { useCompiledCode } from './compiled-code.js';
import { freshModule } from './fresh-module.js';
import type { Layout } from './types.js';

/** Put in by the bundler. */
declare const PCACHE_VERSION: string;

const BUNDLE = new URL('./', import.meta.url);

/** The helper that was compiled here, because no other fitted; or else the prebuilt one. */
function helperPath(): string {
  const compiled = fileURLToPath(new URL('../native/build/Release/pcache_native.node', BUNDLE));
  if (existsSync(compiled)) return compiled;
  return fileURLToPath(new URL(`../prebuilds/${process.platform}-${process.arch}.node`, BUNDLE));
}

export const installedPackage: Layout = {
  version: () => PCACHE_VERSION,
  helperRemedy: 'build it with: npm rebuild --global pcache',
  useCompiledCode: () => useCompiledCode(dirname(fileURLToPath(import.meta.url))),
  loadAddon: () => createRequire(import.meta.url)(helperPath()) as unknown,
  workerModule: (name) => new URL(`worker-${name}.js`, BUNDLE),
  pageFile: (name) => readFileSync(new URL(`page/${name}`, BUNDLE), 'utf8'),
  xzDecoder: () => freshModule(readFileSync(new URL('xz-decompress.cjs', BUNDLE), 'utf8')),
};
