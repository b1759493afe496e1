/** Help texts: complete, and no wider than the terminal. */
import { Config, type Command } from '@oclif/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { helpText, TASKS, wrap, type HelpSource } from '../../src/output/help.js';
import { reworded } from '../../src/output/parser-messages.js';
import { prose } from '../../src/output/prose.js';
import { terminalColumns } from '../../src/output/terminal.js';

let source: HelpSource;

beforeAll(async () => {
  const { version, commands } = await Config.load(process.cwd());
  source = { bin: 'pcache', version, description: 'tools', commands };
});

const show = (subject: string | undefined, widthColumns: number) =>
  helpText(source, subject, { widthColumns, bold: (text) => text });

describe('the help of the program', () => {
  it('lists every command once, under a task', () => {
    const text = show(undefined, 100);
    for (const { id } of source.commands) {
      const name = id.replaceAll(':', ' ');
      expect(text.match(new RegExp(`^ {2}${name} {2,}\\S`, 'gm')), name).toHaveLength(1);
    }
    for (const title of Object.values(TASKS)) expect(text).toContain(`\n${title}\n`);
    expect(text).not.toContain('Other commands');
  });
});

describe('the help of each command', () => {
  it.each([40, 60, 80, 100])('fits in %i columns, except single words and examples', (columns) => {
    for (const { id } of source.commands) {
      const beforeExamples = show(id, columns).split('\nEXAMPLES\n')[0];
      const wide = beforeExamples
        .split('\n')
        .filter((line) => line.length > columns && line.trim().includes(' ') && !/^ {4}\S/.test(line))
        .filter((line) => !/^ {2}(?:pcache |-)/.test(line));
      expect(wide, id).toEqual([]);
    }
  });

  it('names every argument and flag with a description', () => {
    for (const command of source.commands) {
      const text = show(command.id, 80);
      const flags = Object.values(command.flags).filter(({ hidden }) => !hidden);
      for (const { name, description } of flags) {
        expect(description, `${command.id} --${name}`).toBeTruthy();
        expect(text).toMatch(new RegExp(`--(?:\\[no-\\])?${name}\\b`));
      }
      for (const argument of Object.values(command.args)) expect(argument.description, command.id).toBeTruthy();
      expect((command as Command.Cached & { task?: string }).task, command.id).toBeTruthy();
    }
  });

  it('shows the default of a flag, and which values it takes', () => {
    expect(show('bench', 100)).toContain('access pattern (default: randwrite)');
    expect(show('trace:convert', 100)).toContain('--action=queue|issue|complete');
  });
});

it('a topic lists its commands', () => {
  expect(show('trace', 80)).toMatch(/trace convert {2}Convert .*\n +trace info +Describe/);
});

it('wrap breaks between words only', () => {
  expect(wrap('one two three', 7)).toBe('one two\nthree');
  expect(wrap('incomprehensible', 5)).toBe('incomprehensible');
});

it('prose joins the lines of a paragraph, and keeps empty and indented lines', () => {
  expect(prose`one
two

  code
${3} four`).toBe('one two\n\n  code\n3 four');
});

it('COLUMNS goes before the terminal, and 80 is for neither', () => {
  expect(terminalColumns({ columns: 120 }, { COLUMNS: '60' })).toBe(60);
  expect(terminalColumns({ columns: 120 }, {})).toBe(120);
  expect(terminalColumns({}, { COLUMNS: 'x' })).toBe(80);
  expect(terminalColumns({ columns: 3 }, {})).toBe(40);
});

it.each([
  ['--repair=true cannot also be provided when using --dry-run', '--dry-run cannot be used with --repair'],
  ['All of the following must be provided when using --address: --port', '--address needs --port'],
  ['Missing required flag socket', 'missing flag --socket'],
  ['Expected an integer less than or equal to 90 but received: 91', '91 is too large; the maximum is 90'],
  ['Expected --pattern=x to be one of: read, write', "--pattern: 'x' is not valid; give one of read, write"],
  ['Anything else', 'anything else'],
])('the sentence of the parser "%s" is reworded', (sentence, ours) => {
  expect(reworded(sentence)).toBe(ours);
});
