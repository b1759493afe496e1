/** Writes the completion for bash, zsh and fish (`completions/`). They are made with the bundle: npm run build. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../root.mjs';
import { bashCompletion } from './bash.mjs';
import { fishCompletion } from './fish.mjs';
import { commandWords } from './words.mjs';
import { zshCompletion } from './zsh.mjs';

export const COMPLETIONS = { 'pcache.bash': bashCompletion, '_pcache': zshCompletion, 'pcache.fish': fishCompletion };

export function writeCompletions(manifest) {
  const commands = commandWords(manifest);
  const folder = join(root, 'completions');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  for (const [file, text] of Object.entries(COMPLETIONS)) writeFileSync(join(folder, file), text(commands));
}
