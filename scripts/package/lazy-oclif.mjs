/**
 * Lets the modules of oclif be loaded when they are first used: they name one another at their top, so that a command
 * would load all of oclif to use a tenth of it. Each `const x_1 = require('…')`, as TypeScript writes them there,
 * becomes a getter. Its index, which checks the version of Node.js once more, is replaced by the modules behind it.
 */
const OCLIF_MODULE = /\/@oclif\/core\/lib\/.*\.js$/;
const TOP_REQUIRE = /^(?:const|var) (\w+_\d+) = ((?:__importDefault\(|__importStar\()?require\("[^"]+"\)\)?);$/gm;
/** Packages with which oclif looks for commands, plugins and their settings in folders. */
const UNUSED = ['lilconfig', 'minimatch', 'tinyglobby', 'typescript', 'wsl-utils'];
const NOTHING = 'oclif:nothing';
const INDEX = 'oclif:index';
const INDEX_TEXT = `
export { Command } from '@oclif/core/command';
export { Config } from '@oclif/core/config';
export * as Args from '@oclif/core/args';
export * as Errors from '@oclif/core/errors';
export * as Flags from '@oclif/core/flags';
`;

function makeLazy(code) {
  const names = [];
  const getters = [];
  const rest = code.replace(TOP_REQUIRE, (_, name, load) => {
    names.push(name);
    getters.push(`_${name}: undefined, get ${name}() { return (this._${name} ??= ${load}); },`);
    return '';
  });
  const used = names.reduce((text, name) => text.replaceAll(new RegExp(`\\b${name}\\b`, 'g'), `lazy$.${name}`), rest);
  return `const lazy$ = { ${getters.join(' ')} };\n${used}`;
}

/** `debug` says nothing; `bin/dev.js` is there for that. */
const DEBUG = 'oclif:debug';
const DEBUG_TEXT = `
const debug = () => Object.assign(() => undefined, { enabled: false });
export default debug;
`;

export const lazyOclif = {
  name: 'lazy-oclif',
  resolveId(id) {
    if (id === 'debug' || id === DEBUG) return DEBUG;
    if (id === '@oclif/core' || id === INDEX) return INDEX;
    return UNUSED.includes(id) || id === NOTHING ? NOTHING : undefined;
  },
  load(id) {
    if (id === DEBUG) return DEBUG_TEXT;
    if (id === NOTHING) return 'export {};';
    return id === INDEX ? INDEX_TEXT : undefined;
  },
  transform(code, id) {
    return OCLIF_MODULE.test(id) ? { code: makeLazy(code), map: null } : undefined;
  },
};
