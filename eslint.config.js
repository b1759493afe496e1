/**
 * Lint rules: typescript-eslint's type-aware recommendations, and the layering of the source tree, which
 * goes one way only: commands → report → output → kernel, rescue, pack → fsck; fsck, replay, nbd, trace → engine.
 * Inside the engine it goes down the list ENGINE_LAYERS. `test/unit/layering.test.ts` shows that the layering rules fire.
 */
import { fileURLToPath } from 'node:url';
import boundaries from 'eslint-plugin-boundaries';
import tseslint from 'typescript-eslint';

/** Rooms of the engine, bottom to top: each may import those before it. */
const ENGINE_LAYERS = [
  ['basics', ['src/engine/clock.ts', 'src/engine/stats.ts']],
  ['media', ['src/engine/media/**']],
  ['device', ['src/engine/device/**']],
  ['sim', ['src/engine/sim/**']],
  ['copies', ['src/engine/copies/**']],
  ['create', ['src/engine/create/**']],
  ['index', ['src/engine/index/**']],
  ['space', ['src/engine/space/**']],
  ['log', ['src/engine/log/**']],
  ['core', ['src/engine/core.ts']],
  ['background', ['src/engine/background/**']],
  ['request', ['src/engine/request/**']],
  ['engine', ['src/engine/!(clock|core|errors|index|stats).ts']],
  ['pack-format', ['src/engine/pack/**']],
  ['inspect', ['src/engine/inspect/**']],
  ['shards', ['src/engine/shards/**']],
  ['face', ['src/engine/index.ts']],
];

/** Folder of each other layer. */
const LAYERS = [
  ['layout', 'src/layout/**'],
  ['report-model', 'src/report-model/**'],
  ['trace', 'src/trace/**'],
  ['fsck', 'src/fsck/**'],
  ['rescue', 'src/rescue/**'],
  ['pack', 'src/pack/**'],
  ['kernel', 'src/kernel/**'],
  ['tab', 'src/tab/**'],
  ['replay', 'src/replay/**'],
  ['simulate', 'src/simulate/**'],
  ['curve', 'src/curve/**'],
  ['bench', 'src/bench/**'],
  ['block-device', 'src/block-device/**'],
  ['nbd', 'src/nbd/**'],
  ['output', 'src/output/**'],
  ['report', 'src/report-html/**'],
  ['library', 'src/library/**'],
  ['root', 'src/index.ts'],
  ['commands', 'src/commands/**'],
];

const ENGINE = ENGINE_LAYERS.map(([layer]) => layer);

/** What a layer may import besides itself and `engine/errors.ts`, which everything may and which imports nothing. */
const MAY_IMPORT = {
  'layout': [],
  'report-model': [],
  ...Object.fromEntries(ENGINE.map((layer, rank) => [layer, ENGINE.slice(0, rank)])),
  'trace': ['media'],
  'fsck': ['media', 'device'],
  'rescue': [...ENGINE, 'fsck'],
  'pack': [...ENGINE, 'fsck'],
  'kernel': [...ENGINE, 'fsck', 'rescue', 'block-device'],
  'tab': ENGINE,
  'replay': [...ENGINE, 'trace'],
  'simulate': [...ENGINE, 'trace', 'replay'],
  'curve': [...ENGINE, 'trace', 'replay', 'simulate'],
  'bench': [...ENGINE, 'trace', 'fsck', 'replay', 'simulate'],
  'block-device': ['device'],
  'nbd': [...ENGINE, 'block-device'],
  'output': [...ENGINE, 'fsck', 'rescue', 'pack', 'kernel', 'bench', 'nbd', 'curve', 'tab'],
  'report': [...ENGINE, 'replay', 'curve', 'output'],
  'library': [...ENGINE, 'trace', 'fsck', 'replay', 'simulate'],
  'root': [...ENGINE, 'trace', 'fsck', 'replay', 'simulate', 'curve', 'report', 'library'],
  'commands': [
    ...ENGINE,
    'trace',
    'fsck',
    'rescue',
    'pack',
    'kernel',
    'tab',
    'replay',
    'simulate',
    'curve',
    'bench',
    'block-device',
    'nbd',
    'output',
    'report',
    'library',
  ],
};

/** Packages that know a terminal. */
const TERMINAL_PACKAGES = ['@oclif/core', 'ora', 'cli-table3'];

/** Every file has one category, its layer's; single files of the engine's top are not in the layer of the others there. */
const categories = [
  { category: 'errors', pattern: 'src/engine/errors.ts' },
  ...ENGINE_LAYERS.flatMap(([category, patterns]) => patterns.map((pattern) => ({ category, pattern }))),
  ...LAYERS.map(([category, pattern]) => ({ category, pattern })),
];

const policies = [
  { allow: { to: { file: { categories: 'errors' } } } },
  { allow: { to: { file: { categories: 'layout' } } } },
  { allow: { to: { file: { categories: 'report-model' } } } },
  ...Object.entries(MAY_IMPORT).map(([layer, others]) => ({
    from: { file: { categories: layer } },
    allow: { to: { file: { categories: { anyOf: [layer, ...others] } } } },
  })),
];

const noTerminal = (packages) => ({
  'no-console': 'error',
  'no-restricted-globals': [
    'error',
    { name: 'process', message: 'Only src/output knows the process; take what you need as an argument.' },
  ],
  'no-restricted-imports': [
    'error',
    {
      paths: [
        { name: 'node:process', message: 'Only src/output knows the process.' },
        { name: 'process', message: 'Only src/output knows the process.' },
        { name: 'node:console', message: 'Only src/output knows a terminal.' },
        ...packages.map((name) => ({ name, message: 'Only src/output knows a terminal.' })),
      ],
    },
  ],
});

export default tseslint.config(
  { ignores: ['dist/', 'build/', 'bundle/', 'coverage/', 'node_modules/', 'native/', 'fixtures/'] },
  {
    files: ['src/**/*.ts', 'test/**/*.ts', 'examples/*.ts', 'vitest.config.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: {
      parserOptions: {
        project: ['./tsconfig.json', './tsconfig.test.json'],
        tsconfigRootDir: fileURLToPath(new URL('.', import.meta.url)),
      },
    },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', ignoreRestSiblings: true }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      'eqeqeq': 'error',
      'no-warning-comments': ['error', { terms: ['todo', 'fixme', 'xxx'] }],
    },
  },
  {
    files: ['src/**/*.ts'],
    plugins: { boundaries },
    settings: {
      'boundaries/files': categories,
      'boundaries/include': ['src/**/*.ts'],
      'import/resolver': { [fileURLToPath(new URL('scripts/lint/resolver.cjs', import.meta.url))]: {} },
    },
    rules: {
      'boundaries/dependencies': ['error', { default: 'disallow', policies }],
      'boundaries/no-unknown-files': 'error',
      'max-lines': ['warn', { max: 400, skipBlankLines: true, skipComments: true }],
    },
  },
  {
    files: [
      'engine',
      'fsck',
      'rescue',
      'pack',
      'kernel',
      'tab',
      'trace',
      'replay',
      'simulate',
      'block-device',
      'nbd',
      'report-html',
      'library',
    ].map((layer) => `src/${layer}/**/*.ts`),
    rules: noTerminal(TERMINAL_PACKAGES),
  },
  {
    files: ['engine', 'fsck', 'rescue', 'pack', 'kernel'].map((layer) => `src/${layer}/**/*.ts`),
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector: 'CallExpression[callee.property.name=/^(push|unshift|splice|max|min)$/] > SpreadElement',
          message: 'What a medium holds may be more than a call takes arguments; add the items in a loop.',
        },
      ],
    },
  },
  {
    files: ['src/engine/errors.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        { patterns: [{ group: ['*'], message: 'Every layer imports this file; it imports nothing.' }] },
      ],
    },
  },
  { files: ['src/commands/**/*.ts'], rules: noTerminal(['ora', 'cli-table3']) },
  { files: ['test/**/*.ts'], rules: { '@typescript-eslint/no-non-null-assertion': 'off' } },
);
