/**
 * Makes the prebuilt helpers of the package, `prebuilds/linux-ARCH.node` for x64 and arm64. Each runs with glibc from
 * 2.28 on (as Node.js 20 itself) and with musl: the C++ library is inside, and of the C library it uses only functions
 * that both have, in their old versions. The linker takes those from a stub of the C library made for the purpose.
 * Usage: node scripts/native/prebuild.mjs [ARCH …]. Debian: apt install g++ g++-aarch64-linux-gnu
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileHelper, root, runProgram } from './recipe.mjs';

const GLIBC_MAX = [2, 28];
export const ARCHITECTURES = {
  x64: { triple: 'x86_64-linux-gnu', compiler: 'x86_64-linux-gnu-g++' },
  arm64: { triple: 'aarch64-linux-gnu', compiler: 'aarch64-linux-gnu-g++' },
};
/** Where the functions of Node-API come from; all others come from the C library, the unwinder or the loader. */
const NODE_API = /^napi_/;
const UNWINDER = /^_Unwind_/;
const LOADER = /^__tls_get_addr$/;
/**
 * The C++ library asks whether there is one thread only, which older C libraries cannot tell: there may be more. The
 * compiler's own library for arm64 calls getauxval by a name that musl has not.
 */
const SUPPORT = `
#define HIDDEN __attribute__((visibility("hidden")))
HIDDEN char __libc_single_threaded = 0;
unsigned long getauxval(unsigned long type);
HIDDEN unsigned long __getauxval(unsigned long type) { return getauxval(type); }
`;

/** Symbols of a shared object, as `{ name, version, isDefined, isObject, isWeak }`. */
async function dynamicSymbols(path, triple) {
  const listing = await runProgram(`${triple}-readelf`, ['--dyn-syms', '--wide', path]);
  return listing.split('\n').flatMap((line) => {
    const found = /^\s*\d+: [0-9a-f]+\s+\S+\s+(\w+)\s+(\w+)\s+\w+\s+(\w+)\s+([^\s@]+)(?:@@?(\S+))?/.exec(line);
    if (found === null) return [];
    const [, type, binding, section, name, version] = found;
    return [{ name, version, isDefined: section !== 'UND', isObject: type === 'OBJECT', isWeak: binding === 'WEAK' }];
  });
}

function numbers(version) {
  return version.replace('GLIBC_', '').split('.').map(Number);
}

function isOldEnough(version) {
  const [major, minor] = numbers(version);
  return major < GLIBC_MAX[0] || (major === GLIBC_MAX[0] && minor <= GLIBC_MAX[1]);
}

function newest(versions) {
  return [...versions].sort((a, b) => {
    const [left, right] = [numbers(a), numbers(b)];
    return left[0] - right[0] || left[1] - right[1] || (left[2] ?? 0) - (right[2] ?? 0);
  })[versions.length - 1];
}

/** Versions by name of what the C library of the compiler defines. */
async function libraryVersions({ triple, compiler }) {
  const versions = new Map();
  for (const library of ['libc.so.6', 'libm.so.6']) {
    const path = (await runProgram(compiler, [`-print-file-name=${library}`])).trim();
    for (const { name, version, isDefined } of await dynamicSymbols(path, triple)) {
      if (!isDefined || !/^GLIBC_\d/.test(version ?? '')) continue;
      versions.set(name, [...(versions.get(name) ?? []), version]);
    }
  }
  return versions;
}

const cCompiler = ({ compiler }) => compiler.replace(/g\+\+$/, 'gcc');

/** @returns the path of a stub of the C library that defines `symbols`, each in its newest version that is old enough */
async function makeStub(symbols, architecture, folder) {
  const known = await libraryVersions(architecture);
  const byVersion = new Map();
  // A weak symbol that the library has not is one that is called only where it is there.
  const wanted = symbols.filter(({ name, isWeak }) => !isWeak || known.has(name));
  for (const { name } of wanted) {
    const usable = (known.get(name) ?? []).filter(isOldEnough);
    if (usable.length === 0) throw new Error(`${name} is not in glibc ${GLIBC_MAX.join('.')}, or not in the C library`);
    const version = newest(usable);
    byVersion.set(version, [...(byVersion.get(version) ?? []), name]);
  }
  const source = join(folder, 'stub.c');
  const script = join(folder, 'stub.map');
  const stub = join(folder, 'libc.so.6');
  const define = ({ name, isObject }) => (isObject ? `void *${name};` : `void ${name}(void) {}`);
  writeFileSync(source, wanted.map(define).join('\n'));
  const nodes = [...byVersion].map(([version, names]) => `${version} { global: ${names.join('; ')}; };`);
  writeFileSync(script, `${nodes.join('\n')}\n`);
  const flags = [
    '-shared',
    '-nostdlib',
    '-fno-builtin',
    '-w',
    `-Wl,--version-script=${script}`,
    '-Wl,-soname,libc.so.6',
  ];
  await runProgram(cCompiler(architecture), [...flags, source, '-o', stub]);
  return stub;
}

export async function linkPortably(compiled, made, folder, architecture) {
  const support = join(folder, 'support.c');
  writeFileSync(support, SUPPORT);
  const object = `${support}.o`;
  await runProgram(cCompiler(architecture), ['-c', '-fPIC', support, '-o', object]);
  const objects = [...compiled, object];
  const flags = [
    '-shared',
    '-static-libstdc++',
    '-shared-libgcc',
    '-Wl,--exclude-libs,ALL',
    '-Wl,-Bsymbolic',
    '-Wl,--gc-sections',
    '-s',
  ];
  const first = join(folder, 'first.so');
  let output = await runProgram(architecture.compiler, [...flags, ...objects, '-o', first]);
  const needed = (await dynamicSymbols(first, architecture.triple)).filter(
    ({ name, isDefined }) => !isDefined && !NODE_API.test(name) && !UNWINDER.test(name) && !LOADER.test(name),
  );
  const stub = await makeStub(needed, architecture, folder);
  const libraries = ['-Wl,-Bstatic', '-lstdc++', '-Wl,-Bdynamic', '-lgcc_s', '-lgcc', stub];
  const plain = flags.filter((flag) => flag !== '-static-libstdc++');
  output += await runProgram(architecture.compiler, [...plain, '-nodefaultlibs', ...objects, ...libraries, '-o', made]);
  for (const { name, version } of await dynamicSymbols(made, architecture.triple)) {
    if (/^GLIBC_\d/.test(version ?? '') && !isOldEnough(version)) throw new Error(`needs ${name} of ${version}`);
  }
  return output;
}

export async function prebuild(architectures = Object.keys(ARCHITECTURES)) {
  for (const name of architectures) {
    const architecture = ARCHITECTURES[name];
    await compileHelper({
      compiler: architecture.compiler,
      output: join(root, 'prebuilds', `linux-${name}.node`),
      link: (objects, made, folder) => linkPortably(objects, made, folder, architecture),
      environment: {},
    });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await prebuild(process.argv.length > 2 ? process.argv.slice(2) : undefined);
  } catch (error) {
    process.stderr.write(`prebuild: ${error.message}\n${error.output ?? ''}`);
    process.exitCode = 1;
  }
}
