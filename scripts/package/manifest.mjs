/** What the program knows of its commands, for everything that is generated from it: bundle, man pages, completion. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Plugin } from '@oclif/core';
import { root } from './root.mjs';

export function packageJson() {
  return JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
}

/** What help and the parser need of each command, as oclif itself collects it from the compiled commands, by id. */
export async function commandManifest() {
  const plugin = new Plugin({
    root,
    type: 'core',
    ignoreManifest: true,
    errorOnManifestCreate: true,
    respectNoCacheDefault: true,
  });
  await plugin.load();
  // In this order, which decides whose summary a topic gets.
  return Object.fromEntries(plugin.commands.map(({ id }) => [id, plugin.manifest.commands[id]]));
}
