/**
 * Makes `release/pcache-VERSION-linux-x64`: one executable for systems without Node.js, with the program, the native
 * helper, Node.js (this one) and the C++ library in it. Of the system it needs glibc 2.28 and /proc. The parts are put
 * together by `native/rescue/launcher.c`. Usage: npm run sea. Debian: apt install gcc
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inject } from 'postject';
import { rolldown } from 'rolldown';
import { ENTRY, ENTRY_TEXT, NO_INSPECTOR, OUTPUT, bundleFolder, bundlerOptions } from './bundle.mjs';
import { commandManifest, packageJson } from './manifest.mjs';
import { root } from './root.mjs';

const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';
const MAGIC = 'PCACHE01';
const LIBRARIES = ['libstdc++.so.6', 'libgcc_s.so.1'];
/** The launcher's own; children of the program must not have it. */
const NO_PRELOAD = `
for (const old = process.env.LD_PRELOAD; old !== undefined; ) {
  const rest = old.split(':').filter((path) => !path.startsWith('/proc/self/fd/')).join(':');
  if (rest === '') delete process.env.LD_PRELOAD;
  else process.env.LD_PRELOAD = rest;
  break;
}`;

const run = (command, args) => execFileSync(command, args, { encoding: 'utf8', maxBuffer: 2 ** 26 });

export function executablePath() {
  return join(root, 'release', `pcache-${packageJson().version}-linux-x64`);
}

/** The whole program in one CommonJS file. @returns its path */
async function bundleProgram(folder) {
  const layout = { file: 'executable.ts', name: 'singleExecutable' };
  const options = bundlerOptions({ entry: ENTRY_TEXT, manifest: await commandManifest(), layout });
  const build = await rolldown({ ...options, input: { pcache: ENTRY } });
  const file = join(folder, 'pcache.cjs');
  try {
    await build.write({
      ...OUTPUT,
      file,
      format: 'cjs',
      sourcemap: false,
      codeSplitting: false,
      banner: `${NO_INSPECTOR}${NO_PRELOAD}`,
    });
  } finally {
    await build.close();
  }
  return file;
}

/** What the program reads by name; see `src/layout/executable.ts`. */
function assets(folder) {
  const modules = readdirSync(bundleFolder).filter((name) => name.endsWith('.js'));
  const workers = join(folder, 'workers.json');
  writeFileSync(workers, JSON.stringify(['package.json', ...modules.map((name) => `bundle/${name}`)]));
  const packaged = join(folder, 'package.json');
  writeFileSync(packaged, JSON.stringify({ type: 'module' }));
  const pages = readdirSync(join(bundleFolder, 'page'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
  const files = [
    ...modules.map((name) => `bundle/${name}`),
    ...pages,
    'bundle/xz-decompress.cjs',
    'bundle/LICENSES.txt',
  ];
  return {
    'workers.json': workers,
    'package.json': packaged,
    'prebuilds/linux-x64.node': join(root, 'prebuilds', 'linux-x64.node'),
    ...Object.fromEntries(files.map((name) => [name, join(root, name)])),
  };
}

/** Node.js with the program inside. @returns its path */
async function injectProgram(folder) {
  const config = join(folder, 'config.json');
  const blob = join(folder, 'program.blob');
  writeFileSync(
    config,
    JSON.stringify({
      main: await bundleProgram(folder),
      output: blob,
      disableExperimentalSEAWarning: true,
      useCodeCache: true,
      assets: assets(folder),
    }),
  );
  run(process.execPath, ['--experimental-sea-config', config]);
  const node = join(folder, 'node');
  copyFileSync(process.execPath, node);
  chmodSync(node, 0o755);
  await inject(node, 'NODE_SEA_BLOB', readFileSync(blob), { sentinelFuse: FUSE });
  return node;
}

/** The C++ library that Node.js is linked with here. */
function libraryPaths() {
  const listing = run('ldd', [process.execPath]);
  return LIBRARIES.map((name) => {
    const found = listing.split('\n').find((line) => line.trim().startsWith(`${name} => `));
    if (found === undefined) throw new Error(`${process.execPath} does not use ${name}; see ldd`);
    return found.split(/\s+/)[3];
  });
}

export async function makeExecutable() {
  if (process.platform !== 'linux' || process.arch !== 'x64') throw new Error('made on linux-x64 only');
  const folder = mkdtempSync(join(tmpdir(), 'pcache-executable-'));
  try {
    const launcher = join(folder, 'launcher');
    const source = join(root, 'native', 'rescue', 'launcher.c');
    run('gcc', ['-Os', '-Wall', '-Wextra', '-Werror', '-static', '-s', source, '-o', launcher]);
    const parts = [await injectProgram(folder), ...libraryPaths()].map((path) => readFileSync(path));
    const sizes = Buffer.alloc(8 * parts.length);
    parts.forEach((part, at) => sizes.writeBigUInt64LE(BigInt(part.length), 8 * at));
    mkdirSync(join(root, 'release'), { recursive: true });
    rmSync(executablePath(), { force: true });
    const whole = Buffer.concat([readFileSync(launcher), ...parts, sizes, Buffer.from(MAGIC)]);
    writeFileSync(executablePath(), whole, { mode: 0o755 });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return executablePath();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.stdout.write(`${await makeExecutable()}\n`);
