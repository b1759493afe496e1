/**
 * How the native helper is compiled: by the C++ compiler alone, against the headers of Node-API, which are the same for
 * every Node.js. Serves checkouts, installed packages without a fitting prebuilt helper, and prebuilt helpers.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
export const nativeFolder = join(root, 'native');

const DEFINES = [
  'NAPI_VERSION=8',
  'NAPI_CPP_EXCEPTIONS',
  'NODE_GYP_MODULE_NAME=pcache_native',
  'BUILDING_NODE_EXTENSION',
];
const FLAGS = ['-std=c++17', '-O3', '-fPIC', '-pthread', '-fno-rtti', '-fvisibility=hidden'];
const WARNINGS = ['-Wall', '-Wextra', '-Wno-unused-parameter'];

/** The folders of Node-API's headers: of packages in a checkout, `native/include` in an installed package. */
export function includeFolders() {
  const require = createRequire(import.meta.url);
  try {
    return [
      join(dirname(require.resolve('node-api-headers/package.json')), 'include'),
      dirname(require.resolve('node-addon-api/package.json')),
    ];
  } catch {
    const shipped = join(nativeFolder, 'include');
    if (existsSync(shipped)) return [shipped];
    throw new Error('the headers of Node-API are missing; run: npm ci');
  }
}

export function sourceFiles() {
  const folder = join(nativeFolder, 'src');
  return readdirSync(folder)
    .filter((name) => name.endsWith('.cc'))
    .sort()
    .map((name) => join(folder, name));
}

/** Runs a program. @returns what it printed; throws an Error with `output` where it fails. */
export function runProgram(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const hear = (text) => (output += text);
    child.stdout.setEncoding('utf8').on('data', hear);
    child.stderr.setEncoding('utf8').on('data', hear);
    child.on('error', (error) => reject(Object.assign(error, { output: `${error.message}\n` })));
    child.on('close', (status, signal) => {
      if (status === 0) resolve(output);
      else reject(Object.assign(new Error(`${basename(command)} ended with ${status ?? signal}`), { output }));
    });
  });
}

/** `CXXFLAGS` and the like as words. */
function words(text = '') {
  return text.split(/\s+/).filter((word) => word !== '');
}

async function compileObjects(compiler, flags, folder) {
  const waiting = sourceFiles();
  const objects = waiting.map((source) => join(folder, `${basename(source)}.o`));
  const all = [
    ...DEFINES.map((define) => `-D${define}`),
    ...includeFolders().map((include) => `-I${include}`),
    ...FLAGS,
    ...WARNINGS,
    ...flags,
  ];
  let next = 0;
  const output = [];
  const work = async () => {
    while (next < waiting.length) {
      const at = next++;
      output.push(await runProgram(compiler, [...all, '-c', waiting[at], '-o', objects[at]]));
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  return { objects, output: output.join('') };
}

/**
 * Compiles the helper to `output`. What was there before stays until the new one is whole.
 * @param link makes the shared object: gets the objects and the path to write; by default the compiler does
 * @returns what the compiler printed. Throws an Error with `output`.
 */
export async function compileHelper({ compiler, output, flags = [], link, environment = process.env }) {
  mkdirSync(dirname(output), { recursive: true });
  const folder = mkdtempSync(join(dirname(output), '.compiling-'));
  try {
    const compiled = await compileObjects(compiler, [...flags, ...words(environment.CXXFLAGS)], folder);
    const made = join(folder, 'helper.node');
    const linkFlags = ['-shared', '-pthread', ...words(environment.LDFLAGS)];
    const linked = await (link ?? ((objects) => runProgram(compiler, [...linkFlags, ...objects, '-o', made])))(
      compiled.objects,
      made,
      folder,
    );
    renameSync(made, output);
    return `${compiled.output}${linked}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Writes the log of a build beside the helper, and returns its path. */
export function writeLog(text) {
  const path = join(nativeFolder, 'build', 'build.log');
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
}
