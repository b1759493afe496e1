/**
 * Makes TypeScript of this tree (the simulation, the trace fuzzer) runnable without a test runner: types stripped, in a
 * folder of its own. `from` may be any copy of this tree.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import ts from 'typescript';

const FOLDERS = ['src/layout', 'src/engine', 'src/fsck', 'src/rescue', 'test/support'];

function sources(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sources(path);
    return entry.name.endsWith('.ts') && !entry.name.endsWith('.test.ts') ? [path] : [];
  });
}

/** @returns the folder that holds what was made of `test/support`. */
export function buildSimulation(from, to) {
  return join(buildSources(from, to, FOLDERS), 'test', 'support');
}

/**
 * @param folders of `from`: all that what is run imports
 * @returns `to`, which holds what was made of them
 */
export function buildSources(from, to, folders) {
  rmSync(to, { recursive: true, force: true });
  for (const path of folders.flatMap((folder) => sources(join(from, folder)))) {
    const output = join(to, path.slice(from.length + 1).replace(/\.ts$/, '.js'));
    const { outputText } = ts.transpileModule(readFileSync(path, 'utf8'), {
      fileName: path,
      compilerOptions: { target: 'es2022', module: 'esnext', verbatimModuleSyntax: true, inlineSourceMap: true },
    });
    mkdirSync(dirname(output), { recursive: true });
    writeFileSync(output, outputText);
  }
  writeFileSync(join(to, 'package.json'), '{ "type": "module" }\n');
  for (const name of ['native', 'fixtures', 'node_modules']) symlinkSync(join(from, name), join(to, name));
  return to;
}
