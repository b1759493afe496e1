/** The lint rules that keep the layers apart fire on what they are there for, and on nothing else. */
import { ESLint } from 'eslint';
import tseslint from 'typescript-eslint';
import { beforeAll, describe, expect, it } from 'vitest';

let eslint: ESLint;

beforeAll(() => {
  // Without type information, so that a sample needs no file on disk.
  eslint = new ESLint({
    overrideConfig: [
      {
        files: ['src/**/*.ts'],
        languageOptions: { parserOptions: { project: null, program: null, projectService: false } },
        rules: tseslint.configs.disableTypeChecked.rules ?? {},
      },
    ],
  });
});

async function rulesBroken(filePath: string, code: string): Promise<string[]> {
  const [result] = await eslint.lintText(code, { filePath });
  expect(result.fatalErrorCount).toBe(0);
  return result.messages.filter((message) => message.severity === 2).map((message) => message.ruleId ?? '');
}

const LAYERING = 'boundaries/dependencies';

describe('an import that goes up a layer is refused', () => {
  it.each([
    ['src/engine/media/sample.ts', '../device/pmem.js'],
    ['src/engine/media/sample.ts', '../sim/sample.js'],
    ['src/engine/device/sample.ts', '../index/sample.js'],
    ['src/engine/media/sample.ts', '../copies/sample.js'],
    ['src/engine/index/sample.ts', '../space/sample.js'],
    ['src/engine/space/sample.ts', '../log/sample.js'],
    ['src/engine/log/sample.ts', '../core.js'],
    ['src/engine/core.ts', './background/sample.js'],
    ['src/engine/background/sample.ts', '../request/sample.js'],
    ['src/engine/request/sample.ts', '../cache.js'],
    ['src/engine/cache.ts', './shards/sample.js'],
    ['src/engine/shards/sample.ts', '../index.js'],
    ['src/engine/sample.ts', '../output/units.js'],
    ['src/engine/sample.ts', '../trace/sample.js'],
    ['src/engine/sim/sample.ts', '../../fsck/sample.js'],
    ['src/fsck/sample.ts', '../output/table.js'],
    ['src/fsck/sample.ts', '../engine/sample.js'],
    ['src/fsck/sample.ts', '../rescue/sample.js'],
    ['src/rescue/sample.ts', '../output/units.js'],
    ['src/pack/sample.ts', '../output/units.js'],
    ['src/kernel/sample.ts', '../output/units.js'],
    ['src/tab/sample.ts', '../output/units.js'],
    ['src/rescue/sample.ts', '../kernel/sample.js'],
    ['src/engine/inspect/sample.ts', '../../pack/sample.js'],
    ['src/trace/sample.ts', '../replay/sample.js'],
    ['src/nbd/sample.ts', '../replay/sample.js'],
    ['src/output/sample.ts', '../commands/format.js'],
  ])('%s from %s', async (file, target) => {
    const code = `import type { Sample } from '${target}';\nexport type Other = Sample;\n`;
    expect(await rulesBroken(file, code)).toContain(LAYERING);
  });
});

describe('an import that goes down a layer is accepted', () => {
  it.each([
    ['src/engine/device/sample.ts', '../media/geometry.js'],
    ['src/engine/sim/sample.ts', '../device/pmem.js'],
    ['src/engine/core.ts', './log/sample.js'],
    ['src/engine/request/sample.ts', '../background/sample.js'],
    ['src/engine/cache.ts', './request/sample.js'],
    ['src/engine/shards/sample.ts', '../cache.js'],
    ['src/engine/index.ts', './shards/sample.js'],
    ['src/fsck/sample.ts', '../engine/media/kset.js'],
    ['src/replay/sample.ts', '../trace/sample.js'],
    ['src/rescue/sample.ts', '../fsck/check.js'],
    ['src/kernel/sample.ts', '../fsck/check.js'],
    ['src/output/sample.ts', '../rescue/sample.js'],
    ['src/commands/sample.ts', '../output/base-command.js'],
    ['src/commands/sample.ts', '../engine/create/create-cache.js'],
  ])('%s from %s', async (file, target) => {
    const code = `import type { Sample } from '${target}';\nexport type Other = Sample;\n`;
    expect(await rulesBroken(file, code)).toEqual([]);
  });
});

it('the error types, which every layer imports, import nothing', async () => {
  const code = "import type { Geometry } from './media/geometry.js';\nexport type Other = Geometry;\n";
  expect(await rulesBroken('src/engine/errors.ts', code)).toContain('no-restricted-imports');
  expect(await rulesBroken('src/engine/media/sample.ts', code.replace('./media/geometry.js', '../errors.js'))).toEqual(
    [],
  );
});

describe('only src/output knows a terminal', () => {
  const rules = ['no-restricted-imports', 'no-restricted-globals', 'no-console'];
  it.each([
    ['src/engine/sample.ts', "import { ux } from '@oclif/core';\nux.stdout('x');\n"],
    ['src/engine/media/sample.ts', "import ora from 'ora';\nora();\n"],
    ['src/replay/sample.ts', "import Table from 'cli-table3';\nexport const table = new Table();\n"],
    ['src/engine/sample.ts', "import { exit } from 'node:process';\nexit(1);\n"],
    ['src/engine/sample.ts', 'process.exit(1);\n'],
    ['src/nbd/sample.ts', "console.log('x');\n"],
    ['src/rescue/sample.ts', "console.log('x');\n"],
    ['src/pack/sample.ts', 'process.exit(1);\n'],
    ['src/commands/sample.ts', "process.stdout.write('x');\n"],
  ])('%s: %s', async (file, code) => {
    const broken = await rulesBroken(file, code);
    expect(broken.filter((rule) => rules.includes(rule))).toHaveLength(1);
  });

  it('a command may import oclif', async () => {
    expect(
      await rulesBroken('src/commands/sample.ts', "import { Flags } from '@oclif/core';\nexport const all = Flags;\n"),
    ).toEqual([]);
  });
});

describe('items that a medium holds are not the arguments of one call', () => {
  it.each([
    ['src/fsck/sample.ts', 'export const list: number[] = [];\nlist.push(...list);\n', ['no-restricted-syntax']],
    ['src/engine/log/sample.ts', 'export const most = Math.max(...[1, 2]);\n', ['no-restricted-syntax']],
    ['src/rescue/sample.ts', 'export const list: number[] = [];\nlist.push(1);\n', []],
  ])('in %s', async (filePath, code, rules) => {
    expect(await rulesBroken(filePath, code)).toEqual(rules);
  });
});
