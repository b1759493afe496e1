/**
 * Writes the man pages (`man/`): pcache(1) and a page for each command from what the commands declare, pcache-format(5)
 * and pcache-findings(7) from docs/. They are made with the bundle: npm run build.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageJson } from './manifest.mjs';
import {
  bold,
  definition,
  escapeRoff,
  heading,
  italic,
  markdownRoff,
  pageHead,
  paragraph,
  usage,
  verbatim,
} from './roff.mjs';
import { root } from './root.mjs';

const BIN = 'pcache';
const COMMANDS_MANUAL = 'User Commands';
const PAGES_OF_DOCS = {
  'format.md': 'pcache-format(5)',
  'findings.md': 'pcache-findings(7)',
  'tab.md': 'pcache-tab(5)',
};

const pageName = (id) => `${BIN}-${id.replaceAll(':', '-')}`;
const reference = (page) => page.replace(/^(.*)(\(\d\))$/, (_, name, section) => bold(name) + section);
const document = (name) => readFileSync(join(root, 'docs', name), 'utf8');

/** A link to a document that is a page here names the page; other documents are named by their file. */
function docsLink(href, text) {
  const [path] = href.split('#');
  const page = PAGES_OF_DOCS[path.replace(/^docs\//, '')];
  if (page !== undefined) return reference(page);
  return path.startsWith('docs/') ? `${text} (${escapeRoff(path)})` : text;
}

/** The text of a section of level two, up to the next one. */
function sectionOf(markdown, title) {
  const found = new RegExp(`^## ${title}\\n([^]*?)(?=^## |$(?![^]))`, 'm').exec(markdown);
  if (found === null) throw new Error(`README.md has no section "${title}"`);
  return found[1];
}

/** Paragraphs of a description; lines that are indented stay as they are. */
function description(text) {
  return text
    .trim()
    .split(/\n\n+/)
    .map((part) => (/^ /m.test(part) ? mixed(part) : paragraph(escapeRoff(part))))
    .join('\n');
}

function mixed(part) {
  const runs = [];
  for (const line of part.split('\n')) {
    const verbatimLine = line.startsWith(' ');
    const last = runs.at(-1);
    if (last?.verbatimLine === verbatimLine) last.lines.push(line);
    else runs.push({ verbatimLine, lines: [line] });
  }
  return runs
    .map(({ verbatimLine, lines }) =>
      verbatimLine ? verbatim(lines.join('\n')) : paragraph(escapeRoff(lines.join('\n'))),
    )
    .join('\n');
}

const visible = (things = {}) => Object.values(things).filter(({ hidden }) => !hidden);
const lowerSummary = (summary) => summary.replace(/\.$/, '').replace(/^[A-Z](?=[a-z])/, (char) => char.toLowerCase());

/** Flags by the heading they stand under; those of every command come last. */
function grouped(flags) {
  const groups = new Map();
  for (const flag of flags) {
    const group = flag.helpGroup ?? '';
    groups.set(group, [...(groups.get(group) ?? []), flag]);
  }
  return [...groups].sort(([a], [b]) => Number(a === 'GLOBAL') - Number(b === 'GLOBAL'));
}

function commandPage(command, { help, version, manifest }) {
  const { id, summary = '', args, flags, examples = [] } = command;
  const name = pageName(id);
  const parts = [
    pageHead({ name, section: 1, version, manual: COMMANDS_MANUAL, summary: lowerSummary(summary) }),
    heading('Synopsis'),
    help
      .usageLines(BIN, command)
      .map((line) => usage(line))
      .join('\n.br\n'),
  ];
  const about = command.description ?? '';
  parts.push(heading('Description'), about === '' ? paragraph(escapeRoff(summary)) : description(about));
  if (visible(args).length > 0) {
    parts.push(heading('Arguments'));
    for (const { name: word, description: text = '' } of visible(args)) {
      parts.push(definition(italic(word.toUpperCase()), escapeRoff(text)));
    }
  }
  for (const [group, members] of grouped(visible(flags))) {
    parts.push(heading(group === '' ? 'Options' : `${group === 'GLOBAL' ? 'Common' : group} options`));
    for (const flag of members) {
      const [label, text] = help.flagRow(flag);
      parts.push(definition(usage(label), escapeRoff(text)));
    }
  }
  const shown = examples.filter((example) => typeof example !== 'string');
  if (shown.length > 0) parts.push(heading('Examples'));
  for (const example of shown) {
    parts.push(paragraph(escapeRoff(example.description)), verbatim(help.exampleLine(BIN, id, example.command)));
  }
  const others = Object.keys(manifest).filter((other) => other.startsWith(`${id.split(':')[0]}:`) && other !== id);
  const also = [`${BIN}(1)`, ...others.map((other) => `${pageName(other)}(1)`), ...Object.values(PAGES_OF_DOCS)];
  parts.push(heading('Exit status'), paragraph(`As listed in ${reference(`${BIN}(1)`)}.`));
  parts.push(heading('See also'), also.map(reference).join(', '));
  return { file: `${name}.1`, text: parts.join('\n') };
}

/** pcache(1): the commands by task, and the sections of README that hold for all of them. */
function mainPage({ help, version, description: summary, manifest }) {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const introduction = readme.slice(readme.indexOf('\n') + 1, readme.indexOf('\n## ')).replace(/^!\[.*\n/m, '');
  const common = sectionOf(readme, 'Commands').replace(/^[^]*?\n\n(?:\|.*\n)+/, '');
  const parts = [
    pageHead({ name: BIN, section: 1, version, manual: COMMANDS_MANUAL, summary }),
    heading('Synopsis'),
    usage(`${BIN} COMMAND`) + ` [${italic('ARGUMENTS')}] [${italic('OPTIONS')}]`,
    heading('Description'),
    markdownRoff(introduction, docsLink),
    heading('Commands'),
  ];
  for (const [task, title] of Object.entries(help.TASKS)) {
    parts.push(`.SS "${escapeRoff(title)}"`);
    for (const command of Object.values(manifest).filter((one) => one.task === task && !one.hidden)) {
      parts.push(definition(reference(`${pageName(command.id)}(1)`), escapeRoff(command.summary ?? '')));
    }
  }
  parts.push(heading('Options'));
  for (const [flags, text] of help.EVERYWHERE) parts.push(definition(bold(flags), escapeRoff(text)));
  parts.push(heading('Conventions and exit status'), markdownRoff(common, docsLink));
  parts.push(heading('Limits'), markdownRoff(sectionOf(readme, 'Limits'), docsLink));
  const pages = Object.keys(manifest).map((id) => `${pageName(id)}(1)`);
  parts.push(heading('See also'), [...pages, ...Object.values(PAGES_OF_DOCS), 'dmsetup(8)'].map(reference).join(', '));
  return { file: `${BIN}.1`, text: parts.join('\n') };
}

function documentPage(page, summary, markdown, { version }) {
  const [, name, section] = /^(.*)\((\d)\)$/.exec(page);
  const head = pageHead({ name, section, version, manual: 'pcache', summary });
  const also = [`${BIN}(1)`, ...Object.values(PAGES_OF_DOCS).filter((other) => other !== page)];
  const parts = [head, heading('Description'), markdownRoff(markdown, docsLink)];
  return {
    file: `${name}.${section}`,
    text: [...parts, heading('See also'), also.map(reference).join(', ')].join('\n'),
  };
}

/** @returns the pages as `{ file, text }` */
export async function manualPages(manifest) {
  const help = await import(join(root, 'dist', 'output', 'help.js'));
  const { version, description: summary } = packageJson();
  const source = { help, version, description: lowerSummary(summary), manifest };
  return [
    mainPage(source),
    ...Object.values(manifest)
      .filter(({ hidden }) => !hidden)
      .map((command) => commandPage(command, source)),
    documentPage('pcache-format(5)', 'on-media format of dm-pcache', document('format.md'), source),
    documentPage('pcache-findings(7)', 'findings of pcache fsck', document('findings.md'), source),
    documentPage('pcache-tab(5)', 'caches that are attached at boot', document('tab.md'), source),
  ].map(({ file, text }) => ({ file, text: `${text}\n` }));
}

export async function writeManual(manifest) {
  const folder = join(root, 'man');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  for (const { file, text } of await manualPages(manifest)) writeFileSync(join(folder, file), text);
}
