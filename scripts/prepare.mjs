/**
 * npm's prepare step, after `npm ci` in a checkout and for an install from a git URL: compiles and bundles the sources,
 * and lays the headers of Node-API beside the native sources, for computers that have no fitting prebuilt helper.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { copyHeaders } from './package/headers.mjs';
import { buildBundle, buildSources, orExplain, root } from './setup.mjs';

orExplain(() => {
  if (!existsSync(join(root, 'node_modules', 'typescript'))) {
    throw new Error('pcache cannot be compiled without its development packages; run npm ci without --omit=dev');
  }
  buildSources();
  buildBundle();
  copyHeaders();
});
