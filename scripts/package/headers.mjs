/** The headers of Node-API for the package, with their licences. */
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { root } from './root.mjs';

const require = createRequire(import.meta.url);
const packageFolder = (name) => dirname(require.resolve(`${name}/package.json`));

export function copyHeaders() {
  const target = join(root, 'native', 'include');
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  const [headers, addonApi] = [packageFolder('node-api-headers'), packageFolder('node-addon-api')];
  cpSync(join(headers, 'include'), target, { recursive: true, filter: (path) => !/\.json$/.test(path) });
  cpSync(join(headers, 'LICENSE'), join(target, 'LICENSE.node-api-headers'));
  for (const name of ['napi.h', 'napi-inl.h', 'napi-inl.deprecated.h'])
    cpSync(join(addonApi, name), join(target, name));
  cpSync(join(addonApi, 'LICENSE.md'), join(target, 'LICENSE.node-addon-api'));
}
