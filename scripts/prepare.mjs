/**
 * npm's prepare step, after `npm ci` in a checkout and for an install from a git URL: compiles and bundles the sources,
 * and lays the headers of Node-API beside the native sources, for computers that have no fitting prebuilt helper.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { copyHeaders } from './package/headers.mjs';
import { buildBundle, buildSources, orExplain, root } from './setup.mjs';

orExplain(() => {
  const isCompilerThere = existsSync(join(root, 'node_modules', 'typescript'));
  // npm then links its temporary clone instead of making a package of it, and installs nothing that the clone needs.
  if (!isCompilerThere && process.env.npm_config_global === 'true') {
    throw new Error(
      'npm cannot install a git URL globally; run npm pack URL, then npm install --global ./pcache-*.tgz',
    );
  }
  if (!isCompilerThere) {
    throw new Error('pcache cannot be compiled without its development packages; run npm ci without --omit=dev');
  }
  buildSources();
  buildBundle();
  copyHeaders();
});
