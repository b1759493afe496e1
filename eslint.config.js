/**
 * Lint rules: typescript-eslint's type-aware recommendations, and the layering of the source tree, which
 * goes one way only: commands → report → output → kernel, rescue, pack → fsck; fsck, replay, nbd, trace → engine → device → media.
 * `test/unit/layering.test.ts` shows that the layering rules fire.
 */
import { fileURLToPath } from 'node:url';
import boundaries from 'eslint-plugin-boundaries';
import tseslint from 'typescript-eslint';

/** Folder of each layer, innermost first: the first pattern that matches a file gives its layer. */
const LAYERS = [
  ['media', 'src/engine/media/**'],
  ['device', 'src/engine/device/**'],
  ['engine', 'src/engine/**'],
  ['trace', 'src/trace/**'],
  ['fsck', 'src/fsck/**'],
  ['kernel', 'src/kernel/**'],
  ['rescue', 'src/rescue/**'],
  ['pack', 'src/pack/**'],
  ['replay', 'src/replay/**'],
  ['simulate', 'src/simulate/**'],
  ['curve', 'src/curve/**'],
  ['bench', 'src/bench/**'],
  ['nbd', 'src/nbd/**'],
  ['output', 'src/output/**'],
  ['report', 'src/report-html/**'],
  ['commands', 'src/commands/**'],
];

/** What a layer may import besides itself and `engine/errors.ts`, which everything may and which imports nothing. */
const MAY_IMPORT = {
  media: [],
  device: ['media'],
  engine: ['media', 'device'],
  trace: ['media'],
  fsck: ['media', 'device'],
  kernel: ['media', 'device', 'engine', 'fsck', 'rescue'],
  rescue: ['media', 'device', 'engine', 'fsck'],
  pack: ['media', 'device', 'engine', 'fsck'],
  replay: ['media', 'device', 'engine', 'trace'],
  simulate: ['media', 'device', 'engine', 'trace', 'replay'],
  curve: ['media', 'device', 'engine', 'trace', 'replay', 'simulate'],
  bench: ['media', 'device', 'engine', 'fsck', 'replay'],
  nbd: ['media', 'device', 'engine'],
  output: ['media', 'device', 'engine', 'fsck', 'rescue', 'pack', 'bench', 'nbd', 'curve'],
  report: ['engine', 'replay', 'curve', 'output'],
  commands: [
    'media',
    'device',
    'engine',
    'trace',
    'fsck',
    'kernel',
    'rescue',
    'pack',
    'replay',
    'simulate',
    'curve',
    'bench',
    'nbd',
    'output',
    'report',
  ],
};

/** Packages that know a terminal. */
const TERMINAL_PACKAGES = ['@oclif/core', 'ora', 'cli-table3'];

const elements = LAYERS.map(([type, pattern]) => ({ type, pattern, partialMatch: false }));

const policies = [
  { allow: { to: { file: { categories: 'errors' } } } },
  ...Object.entries(MAY_IMPORT).map(([layer, others]) => ({
    from: { element: { type: layer } },
    allow: { to: { element: { types: { anyOf: [layer, ...others] } } } },
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
  { ignores: ['dist/', 'build/', 'coverage/', 'node_modules/', 'native/', 'fixtures/'] },
  {
    files: ['src/**/*.ts', 'test/**/*.ts', 'vitest.config.ts'],
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
      'boundaries/elements': elements,
      'boundaries/files': [{ category: 'errors', pattern: 'src/engine/errors.ts' }],
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
    files: ['engine', 'fsck', 'kernel', 'rescue', 'pack', 'trace', 'replay', 'simulate', 'nbd', 'report-html'].map(
      (layer) => `src/${layer}/**/*.ts`,
    ),
    rules: noTerminal(TERMINAL_PACKAGES),
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
