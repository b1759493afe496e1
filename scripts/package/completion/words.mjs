/** What can follow in a command line, from what the commands declare; the same for every shell. */

/** A value to be chosen: one of some words, a file, a folder, a device, or free text. */
const FILES = { kind: 'files' };
const FOLDERS = { kind: 'folders' };
const FREE = { kind: 'free' };
const CACHE_DEVICES = { kind: 'devices', globs: ['/dev/pmem*', '/dev/dax*'] };
const BACKING_DEVICES = {
  kind: 'devices',
  globs: ['/dev/[hsv]d[a-z]*', '/dev/nvme*n*', '/dev/mapper/[!c]*', '/dev/md*'],
};

const SERVED_DEVICES = { kind: 'devices', globs: ['/dev/ublkb*', '/dev/nbd*', '/dev/mapper/[!c]*'] };

const OF_PLACEHOLDER = { PATH: FILES, FILE: FILES, FOLDER: FOLDERS, DEVICE: BACKING_DEVICES };
const OF_ARGUMENT = {
  cache: CACHE_DEVICES,
  old: CACHE_DEVICES,
  new: CACHE_DEVICES,
  backing: BACKING_DEVICES,
  device: SERVED_DEVICES,
  file: FILES,
  out: FILES,
  trace: FILES,
  other: FILES,
  range: FREE,
  setting: { kind: 'words', words: ['gc_percent='] },
  name: FREE,
};

/** `max|realtime|Nx` names words among placeholders. */
function flagValue({ options, helpValue }) {
  const placeholder = [helpValue ?? ''].flat().join('|');
  const words = options ?? placeholder.split('|').filter((word) => /^[a-z][a-z0-9-]*$/.test(word));
  if (words.length > 0) return { kind: 'words', words };
  return OF_PLACEHOLDER[placeholder] ?? FREE;
}

function argumentValue(id, { name }) {
  const value = OF_ARGUMENT[name];
  if (value === undefined) throw new Error(`${id}: say in ${import.meta.url} what completes the argument ${name}`);
  return value;
}

function flagsOf({ flags = {} }) {
  const declared = Object.values(flags).filter(({ hidden }) => !hidden);
  return [
    ...declared.flatMap((flag) => {
      const { name, char, description = '', type, multiple = false } = flag;
      const value = type === 'option' ? flagValue(flag) : undefined;
      const one = { name, char, description, value, multiple };
      return type === 'boolean' && flag.allowNo === true
        ? [one, { ...one, name: `no-${name}`, char: undefined }]
        : [one];
    }),
    { name: 'help', char: 'h', description: 'show help', value: undefined, multiple: false },
  ];
}

/** @returns the commands as `{ words, summary, flags, args }`; `words` is `['trace', 'info']`, say */
export function commandWords(manifest) {
  return Object.values(manifest)
    .filter(({ hidden }) => !hidden)
    .map((command) => ({
      words: command.id.split(':'),
      summary: (command.summary ?? '').replace(/\.$/, ''),
      flags: flagsOf(command),
      args: Object.values(command.args ?? {}).map((arg) => ({
        name: arg.name,
        description: arg.description ?? '',
        value: argumentValue(command.id, arg),
      })),
    }));
}

/** First words of command lines: `trace` once for its two commands, with what a topic says of itself. */
export function firstWords(commands) {
  const found = new Map();
  for (const { words, summary } of commands) {
    const [first] = words;
    if (words.length === 1) found.set(first, summary);
    else if (!found.has(first)) {
      const verbs = commands.filter((other) => other.words[0] === first).map((other) => other.words[1]);
      found.set(first, `Commands: ${verbs.filter((verb) => verb !== undefined).join(', ')}`);
    }
  }
  return [...found];
}
