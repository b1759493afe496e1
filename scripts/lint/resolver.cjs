/**
 * Import resolver for eslint-plugin-boundaries: TypeScript's `./x.js` is `./x.ts` on disk. What it can't
 * resolve would pass the layering rule unseen, so it resolves every relative import by itself.
 */
'use strict';
const { existsSync } = require('node:fs');
const { isBuiltin } = require('node:module');
const { dirname, resolve } = require('node:path');

exports.interfaceVersion = 2;

exports.resolve = (source, file) => {
  if (isBuiltin(source)) return { found: true, path: null };
  if (!source.startsWith('.')) return { found: false };
  const target = resolve(dirname(file), source);
  const candidates = [target.replace(/\.js$/, '.ts'), target];
  const path = candidates.find((candidate) => existsSync(candidate));
  // A file that is not written yet still belongs to the layer of its folder.
  return { found: true, path: path ?? candidates[0] };
};
