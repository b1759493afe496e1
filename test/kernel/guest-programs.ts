/** Programs that a guest starts over and over. */
import { execFileSync } from 'node:child_process';
import { findClient } from '../support/clients.js';

/**
 * The files that dmsetup and perl consist of. A guest copies them into its memory: otherwise it reads the other machine's files anew,
 * page by page, each time it starts a program, which takes an emulated machine longer than all the rest.
 */
export function programFiles(): string[] {
  const run = (program: string, ...args: string[]): string => execFileSync(program, args, { encoding: 'utf8' });
  const programs = ['dmsetup', 'perl'].map((name) => findClient(name) ?? name);
  const libraries = programs.flatMap((path) => [...run('ldd', path).matchAll(/ => (\/\S+)/g)].map(([, file]) => file));
  const modules = run('perl', '-Mstrict', '-Mwarnings', '-e', 'print join "\n", values %INC').split('\n');
  return [...new Set([...programs, ...libraries, ...modules])];
}
