/** One cache of /etc/pcache/tab: what it is, how it is attached, and the flags of `pcache attach` for that. Pure. */

/** Where the caches are listed that are attached at boot. */
export const TAB_PATH = '/etc/pcache/tab';

/**
 * `kernel`: the kernel's own target, /dev/mapper/NAME. `ublk`, `nbd`: a block device that pcache serves,
 * /dev/pcache/NAME. `socket`: no block device; NBD clients connect to a socket or port.
 */
export const WAYS = ['kernel', 'ublk', 'nbd', 'socket'] as const;
export type Way = (typeof WAYS)[number];

export interface TabEntry {
  readonly name: string;
  /** Number of its line, from 1. */
  readonly line: number;
  readonly cachePath: string;
  readonly backingPath: string;
  readonly way: Way;
  /** Options that are flags of `pcache attach`, by name; `true` for those without a value. */
  readonly options: Readonly<Record<string, string | true>>;
  /** At the end everything is written back. */
  readonly drain: boolean;
  /** Not attached at boot. */
  readonly noauto: boolean;
  /** Attached at boot, which goes on without it. */
  readonly nofail: boolean;
}

/** Options that are written as the flags are called, without a value. */
const SWITCHES: readonly string[] = [
  'read-only',
  'data-crc',
  'no-data-crc',
  'drain',
  'verify-reads',
  'tls-verify-peer',
];
/** Options that are written NAME=VALUE. */
const VALUES: readonly string[] = [
  ...['socket', 'port', 'address', 'control', 'metrics', 'metrics-address', 'gc-percent', 'export-name'],
  ...['jobs', 'max-clients', 'handshake-timeout', 'tls-certificates', 'tls-psk', 'backup-metadata'],
];
/** Options of a cache that the kernel runs. */
const OF_KERNEL: readonly string[] = ['data-crc', 'no-data-crc', 'drain'];
const BOOT_OPTIONS: readonly string[] = ['noauto', 'nofail'];
/** Flags that say yes to a loss that somebody has looked at: a boot must not say it. */
const DECISIONS: readonly string[] = ['accept-loss', 'force-backing', 'force'];

/** Maximum length of a name: with it the path of a socket in the service's folder in /run is short enough. */
const NAME_CHARS_MAX = 64;

/** Path of the block device that the entry provides; undefined when it is served at a socket only. */
export function devicePathOf({ name, way }: Pick<TabEntry, 'name' | 'way'>): string | undefined {
  if (way === 'socket') return undefined;
  return way === 'kernel' ? `/dev/mapper/${name}` : `/dev/pcache/${name}`;
}

/**
 * @param left path of a ublk device whose server has died; it is taken over
 * @returns the arguments of `pcache attach`
 */
export function attachArguments(entry: TabEntry, left?: string): string[] {
  const { name, way, options, cachePath, backingPath } = entry;
  const flags = Object.entries(options).map(([option, value]) => `--${option}${value === true ? '' : `=${value}`}`);
  if (way === 'kernel') flags.push('--run', `--kernel=${name}`);
  else if (way !== 'socket') flags.push(`--name=${name}`, ...(left ? ['--recover'] : []), `--device=${left ?? way}`);
  return [...flags, '--', cachePath, backingPath];
}

/** @returns why the name cannot be used, with the remedy; undefined for one that can */
export function nameProblem(name: string): string | undefined {
  // Valid in the name of a unit without an escape, as a device-mapper name, and as a file in /dev.
  const isPlain = /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(name) && name.length <= NAME_CHARS_MAX;
  if (!isPlain) {
    return `'${name}' is not a name; use up to ${NAME_CHARS_MAX} letters, digits, _, . and -, with a letter, digit or _ first`;
  }
  return name === 'control' ? "'control' has a meaning of its own in /dev/mapper; give another name" : undefined;
}

/** @returns why the path cannot be used, with the remedy */
export function pathProblem(path: string): string | undefined {
  const tag = /^(LABEL|UUID|PARTLABEL|PARTUUID|ID)=(.*)$/.exec(path);
  if (tag) return `'${path}' is not a path; write /dev/disk/by-${tag[1].toLowerCase()}/${tag[2]}`;
  if (!path.startsWith('/')) return `'${path}' is not an absolute path; begin it with /`;
  if (/\/\.{1,2}(\/|$)/.test(path)) return `'${path}' goes by way of . or ..; write the path without them`;
  return undefined;
}

type Options = Pick<TabEntry, 'way' | 'options' | 'drain' | 'noauto' | 'nofail'>;

/**
 * The fourth field.
 * @param words options as they are written between commas, escapes resolved
 * @returns the options, or each reason why there are none, with the remedy
 */
export function readOptions(words: readonly string[]): Options | string[] {
  const problems: string[] = [];
  const ways = new Set<Way>();
  const options: Record<string, string | true> = {};
  const boot = new Set<string>();
  const given = new Set<string>();
  for (const word of words) {
    const equals = word.indexOf('=');
    const option = equals < 0 ? word : word.slice(0, equals);
    const value = equals < 0 ? undefined : word.slice(equals + 1);
    const problem =
      optionProblem(option, value) ?? (given.has(option) ? `${option} is given twice; leave one` : undefined);
    given.add(option);
    if (problem !== undefined) problems.push(problem);
    else if (BOOT_OPTIONS.includes(option)) boot.add(option);
    else if (option === 'kernel' || option === 'ublk' || option === 'nbd') ways.add(option);
    else options[option] = value ?? true;
  }
  if (ways.size === 0 && (given.has('socket') || given.has('port'))) ways.add('socket');
  if (problems.length > 0) return problems;
  const [way, ...others] = ways;
  if (way === undefined) return ['how it is attached is missing; add kernel, ublk, nbd, or socket=PATH'];
  if (others.length > 0) return [`${[way, ...others].join(' and ')} exclude one another; leave one`];
  const clashes = clashesOf(way, options, boot);
  if (clashes.length > 0) return clashes;
  // The kernel's target is drained by "pcache tab detach", and not by a flag of attach.
  const drain = 'drain' in options;
  if (way === 'kernel') delete options['drain'];
  return { way, options, drain, noauto: boot.has('noauto'), nofail: boot.has('nofail') };
}

function optionProblem(option: string, value: string | undefined): string | undefined {
  if (DECISIONS.includes(option)) {
    return `${option} is for somebody who has seen what is lost, not for every boot; give it to "pcache attach" once`;
  }
  if (VALUES.includes(option)) {
    return value === undefined || value === '' ? `${option} needs a value; write ${option}=…` : undefined;
  }
  if (SWITCHES.includes(option) || BOOT_OPTIONS.includes(option) || ['kernel', 'ublk', 'nbd'].includes(option)) {
    return value === undefined ? undefined : `${option} takes no value; write ${option} alone`;
  }
  return `'${option}' is not an option; see pcache-tab(5) for those there are`;
}

function clashesOf(way: Way, options: Options['options'], boot: ReadonlySet<string>): string[] {
  const clashes: string[] = [];
  const both = (first: string, second: string) => {
    if (first in options && second in options) clashes.push(`${first} cannot be used with ${second}; leave one`);
  };
  if (way === 'kernel') {
    for (const option of Object.keys(options).filter((one) => !OF_KERNEL.includes(one))) {
      clashes.push(`${option} cannot be used with kernel, which serves nothing; leave it out`);
    }
  }
  both('data-crc', 'no-data-crc');
  both('socket', 'port');
  for (const option of ['drain', 'gc-percent', 'verify-reads']) both(option, 'read-only');
  if ('address' in options && !('port' in options)) clashes.push('address needs port; add port=N');
  if ('metrics-address' in options && !('metrics' in options))
    clashes.push('metrics-address needs metrics; add metrics=N');
  if (boot.size === BOOT_OPTIONS.length) clashes.push('nofail says nothing with noauto; leave one');
  return clashes;
}
