/**
 * Help texts: the commands grouped by task, the commands of a topic, and everything about one command. Made from what
 * the command classes declare, in paragraphs as wide as the terminal. Pure.
 */
import type { Command } from '@oclif/core';
import { shown } from './charset.js';

/** Tasks of a user, in the order of the help; a command class names its own in `task`. */
export const TASKS = {
  create: 'Create a cache',
  inspect: 'Inspect a cache',
  repair: 'Check, repair and rescue',
  serve: 'Attach and serve',
  size: 'Choose the size of a cache',
  measure: 'Measure performance',
} as const;
export type Task = keyof typeof TASKS;

/** What every command takes. */
export const EVERYWHERE: readonly (readonly [flags: string, description: string])[] = [
  ['-h, --help', 'Show help: "pcache COMMAND --help" for a command.'],
  ['-V, --version', 'Show the version.'],
  ['-q, --quiet', 'Print errors and warnings only; the exit status tells the result.'],
  ['--json', 'Print the result as one JSON document.'],
];

const EXIT_STATUSES: readonly (readonly [status: string, meaning: string])[] = [
  ['0', 'success'],
  ['1', 'problems were found and repaired'],
  ['4', 'problems are left'],
  ['8', 'the command failed'],
  ['16', 'wrong usage'],
];

export interface HelpSource {
  /** Name of the program. */
  readonly bin: string;
  readonly version: string;
  readonly description: string;
  readonly commands: readonly Command.Cached[];
}

export interface HelpStyle {
  readonly widthColumns: number;
  bold(text: string): string;
}

type Flag = Command.Flag.Cached;

const INDENT = '  ';
/** A longer name stands on a line of its own, above its description. */
const NAME_COLUMNS_MAX = 30;

/** @param subject id of a command or a topic; undefined for the whole program */
export function helpText(source: HelpSource, subject: string | undefined, style: HelpStyle): string {
  if (subject === undefined) return rootHelp(source, style);
  const command = source.commands.find(({ id }) => id === subject);
  const topic = subcommands(source, subject);
  const parts = command === undefined ? topicHead(source, subject, style) : commandHelp(source, command, style);
  if (topic.length > 0) parts.push(section('COMMANDS', listOf(topic, style), style));
  return `${parts.join('\n\n')}\n`;
}

function rootHelp({ bin, version, description, commands }: HelpSource, style: HelpStyle): string {
  const visible = commands.filter(({ hidden }) => !hidden);
  const taskOf = (command: Command.Cached) => (command as { readonly task?: Task }).task;
  const groups: { title: string; members: Command.Cached[] }[] = Object.entries(TASKS).map(([task, title]) => ({
    title,
    members: visible.filter((command) => taskOf(command) === task),
  }));
  groups.push({ title: 'Other commands', members: visible.filter((command) => taskOf(command) === undefined) });
  const parts = [
    wrap(`${bin} ${version}: ${description}`, style.widthColumns),
    section('USAGE', `${INDENT}${bin} COMMAND [ARGUMENTS] [FLAGS]`, style),
    ...groups
      .filter(({ members }) => members.length > 0)
      .map(({ title, members }) => section(title, listOf(members, style), style)),
    section('Everywhere', table(EVERYWHERE, style), style),
    section('Exit status', table(EXIT_STATUSES, style), style),
  ];
  return `${parts.join('\n\n')}\n`;
}

function topicHead({ bin, commands }: HelpSource, topic: string, style: HelpStyle): string[] {
  const names = commands.filter(({ id }) => id.startsWith(`${topic}:`)).map(({ id }) => id.slice(topic.length + 1));
  return [section('USAGE', names.map((name) => `${INDENT}${bin} ${topic} ${name} …`).join('\n'), style)];
}

function subcommands({ commands }: HelpSource, topic: string): Command.Cached[] {
  return commands.filter(({ id, hidden }) => id.startsWith(`${topic}:`) && !hidden);
}

function commandHelp({ bin }: HelpSource, command: Command.Cached, style: HelpStyle): string[] {
  const { summary = '', description = '', args = {}, flags = {}, examples = [] } = command;
  const parts = [
    wrap(summary, style.widthColumns),
    section(
      'USAGE',
      usageLines(bin, command)
        .map((line) => INDENT + line)
        .join('\n'),
      style,
    ),
  ];
  const rows = Object.values(args)
    .filter(({ hidden }) => !hidden)
    .map(({ name, required, description: about = '' }): [string, string] => {
      return [argName(name, required), about];
    });
  if (rows.length > 0) parts.push(section('ARGUMENTS', table(rows, style), style));
  const groups = new Map<string, Flag[]>();
  for (const flag of Object.values(flags).filter(({ hidden }) => !hidden)) {
    const group = flag.helpGroup === undefined ? 'FLAGS' : `${flag.helpGroup} FLAGS`;
    groups.set(group, [...(groups.get(group) ?? []), flag]);
  }
  for (const title of [...groups.keys()].sort((a, b) => rank(a) - rank(b))) {
    parts.push(section(title, table((groups.get(title) ?? []).map(flagRow), style), style));
  }
  if (description !== '') parts.push(section('DESCRIPTION', paragraphs(description, style), style));
  const shown = examples.flatMap((example) =>
    typeof example === 'string' ? [] : [exampleText(bin, command, example, style)],
  );
  if (shown.length > 0) parts.push(section('EXAMPLES', shown.join('\n\n'), style));
  return parts;
}

/** The command's own flags, then its groups, then the flags of every command. */
function rank(title: string): number {
  if (title === 'FLAGS') return 0;
  return title === 'GLOBAL FLAGS' ? 2 : 1;
}

/** One line for each way to call the command. */
export function usageLines(bin: string, command: Command.Cached): string[] {
  const { args = {} } = command;
  const usage = typeof command.usage === 'string' ? [command.usage] : (command.usage ?? []);
  const name = command.id.replaceAll(':', ' ');
  if (usage.length > 0) return usage.map((line) => `${bin} ${line.replace('<%= command.id %>', name)}`);
  const words = Object.values(args).map(({ name, required }) => argName(name, required));
  return [[bin, name, ...words, '[FLAGS]'].join(' ')];
}

/** `--size=SIZE`, `-n, --dry-run`, `--[no-]data`, and the description with the default. */
export function flagRow(flag: Flag): [name: string, description: string] {
  const { name, char, description = '', required } = flag;
  const long = flag.type === 'boolean' && flag.allowNo === true ? `--[no-]${name}` : `--${name}`;
  const value =
    flag.type === 'option'
      ? `=${[flag.helpValue ?? flag.options ?? []].flat().join('|') || name.toUpperCase().replaceAll('-', '_')}`
      : '';
  const label = `${char === undefined ? '' : `-${char}, `}${long}${value}`;
  const byDefault =
    flag.type !== 'option' || flag.default === undefined
      ? ''
      : ` (default: ${String(flag.default as string | number)})`;
  return [label, `${description}${byDefault}${required === true ? ' (required)' : ''}`];
}

function exampleText(
  bin: string,
  { id }: Command.Cached,
  { description, command }: { readonly description: string; readonly command: string },
  style: HelpStyle,
): string {
  return `${paragraphs(description, style)}\n\n${INDENT}${INDENT}${exampleLine(bin, id, command)}`;
}

/** Fills in the names of the program and the command. */
export function exampleLine(bin: string, id: string, template: string): string {
  return template.replaceAll('<%= config.bin %>', bin).replaceAll('<%= command.id %>', id.replaceAll(':', ' '));
}

function section(title: string, body: string, style: HelpStyle): string {
  return `${style.bold(title)}\n${body}`;
}

function listOf(commands: readonly Command.Cached[], style: HelpStyle): string {
  return table(
    commands.map(({ id, summary = '' }): [string, string] => [id.replaceAll(':', ' '), summary]),
    style,
  );
}

/** Names on the left, wrapped descriptions on the right. */
function table(rows: readonly (readonly [name: string, description: string])[], { widthColumns }: HelpStyle): string {
  const most = Math.min(NAME_COLUMNS_MAX, Math.floor(widthColumns / 2));
  const shownRows = rows.map(([name, description]) => [shown(name), shown(description)] as const);
  const nameColumns = shownRows.reduce(
    (widest, [name]) => (name.length > most ? widest : Math.max(widest, name.length)),
    0,
  );
  const indent = INDENT.length + nameColumns + INDENT.length;
  return shownRows
    .map(([name, description]) => {
      const lines = wrap(description, widthColumns - indent).split('\n');
      const below = lines.map((line) => ' '.repeat(indent) + line);
      if (name.length > nameColumns) return [INDENT + name, ...below].join('\n');
      return [`${INDENT}${name.padEnd(nameColumns)}${INDENT}${lines[0]}`, ...below.slice(1)].join('\n').trimEnd();
    })
    .join('\n');
}

/** Indented paragraphs; lines that are indented already stay as they are. */
function paragraphs(text: string, { widthColumns }: HelpStyle): string {
  return text
    .trim()
    .split('\n')
    .map((line) => {
      if (line === '') return line;
      if (line.startsWith(' ')) return INDENT + line;
      return wrap(line, widthColumns - INDENT.length).replace(/^/gm, INDENT);
    })
    .join('\n');
}

/** Breaks a line between words, so that none is longer than `columns` unless a single word is. */
export function wrap(text: string, columns: number): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line].join('\n');
}

function argName(name: string, required: boolean | undefined): string {
  return required === true ? name.toUpperCase() : `[${name.toUpperCase()}]`;
}
