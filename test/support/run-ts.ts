/**
 * TypeScript of this repository as a program that plain node runs, for child processes of tests: the types
 * are dropped, once per test process, into a copy that goes with the run. They are not checked; the type check does that.
 */
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { imagesFolderOf } from './images-cleanup.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** What such a program may import. */
const FOLDERS = ['src/engine', 'src/layout', 'test/support', 'test/kernel'];

let copy: string | undefined;

function makeCopy(): string {
  const target = join(imagesFolderOf(process.ppid), `programs-${process.pid}`);
  for (const folder of FOLDERS) {
    for (const name of readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })) {
      if (!name.endsWith('.ts') || name.endsWith('.test.ts')) continue;
      const output = join(target, folder, name.replace(/\.ts$/, '.js'));
      const { outputText } = ts.transpileModule(readFileSync(join(ROOT, folder, name), 'utf8'), {
        compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, verbatimModuleSyntax: true },
      });
      mkdirSync(dirname(output), { recursive: true });
      writeFileSync(output, outputText);
    }
  }
  // The native helper is looked for relative to the sources.
  writeFileSync(join(target, 'package.json'), '{ "type": "module" }\n');
  symlinkSync(join(ROOT, 'native'), join(target, 'native'));
  return target;
}

/** The file to give to node for `path`, a TypeScript file relative to the root of the repository. */
export function runnable(path: string): string {
  copy ??= makeCopy();
  return join(copy, path.replace(/\.ts$/, '.js'));
}
