/** A root folder with the single executable and nothing else but glibc, sh and env of busybox, and /dev/null. */
import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './checks.mjs';

export const BUSYBOX = '/usr/bin/busybox';
const LIBRARIES = ['libc.so.6', 'libm.so.6', 'libdl.so.2', 'libpthread.so.0'];
const LOADER = '/lib64/ld-linux-x86-64.so.2';

export function makeBareRoot(folder, executable) {
  const libraries = join('lib', 'x86_64-linux-gnu');
  for (const name of ['bin', 'lib64', libraries, 'proc', 'sys', 'tmp', 'dev'])
    mkdirSync(join(folder, name), { recursive: true });
  run('mknod', [join(folder, 'dev', 'null'), 'c', '1', '3']);
  for (const name of ['sh', 'env']) copyFileSync(BUSYBOX, join(folder, 'bin', name));
  copyFileSync(LOADER, join(folder, LOADER));
  for (const name of LIBRARIES) copyFileSync(join('/', libraries, name), join(folder, libraries, name));
  copyFileSync(executable, join(folder, 'bin', 'pcache'));
}
