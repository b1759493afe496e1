/**
 * Makes `bundle/` from the sources and the packages that they use: the program as it is installed, with one chunk for
 * each command, so that a start loads what its command needs and nothing else; and with it the man pages (`man/`) and
 * the completion (`completions/`). Needs `dist/`, from which it takes what oclif knows of the commands. Usage: node scripts/package/bundle.mjs
 */
import { chmodSync, cpSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';
import { writeCompiledCode } from './compiled-code.mjs';
import { lazyOclif } from './lazy-oclif.mjs';
import { writeCompletions } from './completion/completion.mjs';
import { licencesOf } from './licences.mjs';
import { commandManifest, packageJson } from './manifest.mjs';
import { writeManual } from './manual.mjs';
import { root } from './root.mjs';

export const bundleFolder = join(root, 'bundle');
const source = (...parts) => join(root, 'src', ...parts);
export const ENTRY = 'pcache:entry';
const COMMANDS = 'pcache:commands';
const LAYOUT = 'pcache:layout';
/** Goes before everything else, as `bin/no-inspector.js` does it for a checkout. */
export const NO_INSPECTOR = "process.on('SIGUSR1', () => undefined);";

/** What oclif needs of package.json. */
function shortPackageJson() {
  const { name, version, description, oclif } = packageJson();
  return { name, version, description, oclif };
}

/** The module that starts the program. What it knows of the commands is in a chunk that the version does not need. */
export const ENTRY_TEXT = `
import { start } from ${JSON.stringify(source('output', 'start.ts'))};
void start(async () => (await import('${COMMANDS}')).commands);
`;

function commandsModule(manifest) {
  const loaders = Object.entries(manifest).map(
    ([id, command]) => `${JSON.stringify(id)}: () => import(${JSON.stringify(commandSource(command))})`,
  );
  return `
export const commands = {
  pjson: ${JSON.stringify(shortPackageJson())},
  manifest: JSON.parse(${JSON.stringify(JSON.stringify(manifest))}),
  loaders: { ${loaders.join(', ')} },
};
`;
}

/** `dist/commands/bench/crc.js` of the manifest as a path of the source. */
function commandSource({ relativePath }) {
  return source(...relativePath.slice(1)).replace(/\.js$/, '.ts');
}

/** Options of every bundle. `layout`: which module of `src/layout` knows where the files are. */
export function bundlerOptions({ entry, manifest, layout }) {
  const virtual = new Map([
    [ENTRY, entry],
    [COMMANDS, commandsModule(manifest)],
    [LAYOUT, `export { ${layout.name} as layout } from ${JSON.stringify(source('layout', layout.file))};`],
  ]);
  return {
    platform: 'node',
    cwd: root,
    resolve: { extensionAlias: { '.js': ['.ts', '.js'] } },
    transform: {
      target: 'es2022',
      define: { PCACHE_VERSION: JSON.stringify(shortPackageJson().version) },
    },
    plugins: [
      lazyOclif,
      {
        name: 'pcache',
        resolveId(id) {
          if (virtual.has(id)) return id;
          return id.endsWith('/layout/layout.js') ? LAYOUT : undefined;
        },
        load: (id) => virtual.get(id),
      },
    ],
    onLog(level, log, handler) {
      handler(level === 'warn' ? 'error' : level, log);
    },
  };
}

export const OUTPUT = {
  sourcemap: true,
  // Names stay: reports of bugs show stacks, and errors of the parser are told apart by their classes.
  minify: {
    compress: { keepNames: { function: true, class: true } },
    mangle: { keepNames: { function: true, class: true } },
    codegen: { removeWhitespace: true },
  },
};

const require = createRequire(import.meta.url);
const uplot = dirname(require.resolve('uplot/package.json'));
/** Evaluated again for each stream; see \`src/layout/types.ts\`. */
const xz = require.resolve('xz-decompress');

/** The files of the HTML report, as `src/layout/package.ts` finds them. */
export function copyPage(folder) {
  cpSync(source('report-html', 'page'), folder, { recursive: true, filter: (path) => !path.endsWith('tsconfig.json') });
  for (const file of ['LICENSE', 'dist/uPlot.min.css', 'dist/uPlot.iife.min.js']) {
    cpSync(join(uplot, file), join(folder, 'uplot', file.replace('dist/', '')));
  }
}

/** @returns the files that were written */
async function write(inputOptions, outputOptions) {
  const build = await rolldown(inputOptions);
  try {
    return (await build.write({ dir: bundleFolder, ...OUTPUT, ...outputOptions })).output;
  } finally {
    await build.close();
  }
}

/**
 * The program is CommonJS, which Node.js starts faster than modules. Threads and the library are modules: their code
 * awaits at its top.
 */
export async function bundle(manifest) {
  const options = bundlerOptions({
    entry: ENTRY_TEXT,
    manifest,
    layout: { file: 'package.ts', name: 'installedPackage' },
  });
  rmSync(bundleFolder, { recursive: true, force: true });
  const program = await write(
    { ...options, input: { pcache: ENTRY } },
    {
      format: 'cjs',
      entryFileNames: '[name].cjs',
      chunkFileNames: '[name]-[hash].cjs',
      banner: (chunk) => (chunk.isEntry ? `#!/usr/bin/env node\n${NO_INSPECTOR}` : ''),
    },
  );
  const modules = await write(
    {
      ...options,
      input: {
        'index': source('index.ts'),
        'worker-bench': source('bench', 'job-worker.ts'),
        'worker-curve': source('curve', 'worker.ts'),
        'worker-serve': source('nbd', 'serve-worker.ts'),
      },
    },
    { format: 'esm', entryFileNames: '[name].js', chunkFileNames: '[name]-[hash].js' },
  );
  chmodSync(join(bundleFolder, 'pcache.cjs'), 0o755);
  copyPage(join(bundleFolder, 'page'));
  cpSync(xz, join(bundleFolder, 'xz-decompress.cjs'));
  const moduleIds = [...program, ...modules].flatMap((file) => file.moduleIds ?? []);
  writeFileSync(
    join(bundleFolder, 'LICENSES.txt'),
    licencesOf(moduleIds, [uplot, dirname(require.resolve('xz-decompress/package.json'))]),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const manifest = await commandManifest();
  await bundle(manifest);
  await writeCompiledCode();
  await writeManual(manifest);
  writeCompletions(manifest);
}
