/** The licences of the packages that are part of a bundle, as one text. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** @returns the folder of the package that a module belongs to, or undefined for our own. */
function packageOf(moduleId) {
  if (!moduleId.includes('/node_modules/')) return undefined;
  let folder = dirname(moduleId);
  for (; dirname(folder) !== folder; folder = dirname(folder)) {
    const path = join(folder, 'package.json');
    // Packages put short package.json files into folders of theirs, to say what kind of modules are there.
    if (existsSync(path) && JSON.parse(readFileSync(path, 'utf8')).version !== undefined) return folder;
  }
  throw new Error(`${moduleId}: in node_modules, but in no package`);
}

function licenceText(folder) {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e(\.(md|txt))?$/i.test(entry));
  if (license === undefined && file === undefined) throw new Error(`${name}: has no licence that could be given`);
  const text = file === undefined ? '' : `\n${readFileSync(join(folder, file), 'utf8').trim()}\n`;
  return { name, text: `${name} ${version}: ${typeof license === 'string' ? license : 'see below'}\n${text}` };
}

/** @param moduleIds paths of modules; those of no package are skipped. */
export function licencesOf(moduleIds, furtherPackages = []) {
  const folders = new Set([...moduleIds.map(packageOf).filter((folder) => folder !== undefined), ...furtherPackages]);
  const found = [...folders].map(licenceText).sort((a, b) => a.name.localeCompare(b.name));
  const rule = `${'-'.repeat(80)}\n`;
  return `pcache contains parts of these packages.\n\n${found.map(({ text }) => rule + text).join('\n')}`;
}
