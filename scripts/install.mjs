/**
 * npm's install step: sees to a native helper that fits. In an installed package that is the prebuilt one, or else one
 * compiled here. Where neither can be had the installation goes on: commands that only read do without it.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { buildNative } from './build-native.mjs';
import { root } from './native/recipe.mjs';

function prebuiltLoads() {
  const path = join(root, 'prebuilds', `${process.platform}-${process.arch}.node`);
  if (!existsSync(path)) return false;
  try {
    createRequire(import.meta.url)(path);
    return true;
  } catch {
    return false;
  }
}

const isCheckout = existsSync(join(root, 'src', 'commands'));
try {
  if (isCheckout || !prebuiltLoads()) await buildNative();
} catch (error) {
  process.stderr.write(
    `pcache: there is no native helper: ${error.message}. Until then commands that only read work, and others refuse.\n`,
  );
}
