/**
 * Runs the bundled program and keeps what V8 compiled for it (`src/layout/compiled-code.ts`), so that the commands
 * listed here start quickest. `bundle.mjs` calls `writeCompiledCode`, which runs this file once for each command, with
 * the file for the result and the command line as arguments.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deserialize, serialize } from 'node:v8';
import { root } from './root.mjs';

const bundleFolder = join(root, 'bundle');
const COMPILED_CODE = '../../dist/layout/compiled-code.js';
const require = createRequire(import.meta.url);
/** Commands that end at once. The first that loads a chunk decides which of its functions are compiled. */
const runsOf = (image) => [
  ['info', image],
  ['fsck', image],
  ['map', image],
  ['dump-keys', image],
  ['--help'],
  ['format', image, '--force', '--size', '512MiB', '--no-preallocate'],
];

async function record(file, args) {
  const { compileChunk, runChunk } = await import(COMPILED_CODE);
  const scripts = new Map();
  const entry = join(bundleFolder, 'pcache.cjs');
  require.extensions['.cjs'] = (module, filename) => {
    if (filename === entry) return require.extensions['.js'](module, filename);
    const script = compileChunk(filename);
    scripts.set(basename(filename), script);
    runChunk(script, module, filename);
  };
  process.on('exit', () => {
    writeFileSync(file, serialize(new Map([...scripts].map(([name, script]) => [name, script.createCachedData()]))));
  });
  process.argv = [process.execPath, entry, ...args];
  require(entry);
}

/** Writes the compiled code beside the chunks in `bundle/`. Where no cache can be made, less is compiled. */
export async function writeCompiledCode() {
  const { COMPILED_CODE_FILE, CompiledCode } = await import(COMPILED_CODE);
  const folder = mkdtempSync(join(tmpdir(), 'pcache-compile-'));
  const image = join(folder, 'cache.img');
  const file = join(folder, 'recorded');
  const env = { ...process.env, NODE_OPTIONS: '' };
  const compiled = new Map();
  try {
    const make = ['format', image, '--size', '512MiB', '--no-preallocate'];
    spawnSync(process.execPath, [join(bundleFolder, 'pcache.cjs'), ...make], { stdio: 'ignore' });
    for (const args of runsOf(image)) {
      rmSync(file, { force: true });
      const { stderr } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), file, ...args], {
        env,
        encoding: 'utf8',
      });
      const recorded = existsSync(file) ? deserialize(readFileSync(file)) : new Map();
      if (recorded.size === 0) throw new Error(`pcache ${args[0]} left no compiled code: ${stderr}`);
      for (const [name, code] of recorded) if (!compiled.has(name)) compiled.set(name, code);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  writeFileSync(join(bundleFolder, COMPILED_CODE_FILE), CompiledCode.encode(compiled));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await record(process.argv[2], process.argv.slice(3));
