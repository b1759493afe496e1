/** What the words of a command line ask for: the version, help, or a command with its arguments. Pure. */
import { PcacheError } from '../engine/errors.js';
import { nearestName } from './nearest-name.js';

export const VERSION_WORDS: readonly string[] = ['--version', '-v', '-V', 'version'];
const HELP_FLAGS: readonly string[] = ['--help', '-h'];

export type Invocation =
  | { readonly kind: 'version' }
  /** `subject` is the id of a command, a topic, or undefined for the whole program. */
  | { readonly kind: 'help'; readonly subject: string | undefined }
  | { readonly kind: 'command'; readonly id: string; readonly args: readonly string[] };

/**
 * @param args the words after the name of the program
 * @param ids ids of the commands: `info`, `trace:convert`
 * @param exists tells whether a file of this name exists
 * @throws PcacheError USAGE for words that name no command
 */
export function readInvocation(
  args: readonly string[],
  ids: readonly string[],
  exists: (path: string) => boolean,
): Invocation {
  if (VERSION_WORDS.includes(args[0])) return { kind: 'version' };
  const rest = args.indexOf('--');
  const own = rest < 0 ? args : args.slice(0, rest);
  const asksHelp = args.length === 0 || args[0] === 'help' || own.some((word) => HELP_FLAGS.includes(word));
  const words = asksHelp
    ? own.filter((word, at) => !HELP_FLAGS.includes(word) && !(at === 0 && word === 'help'))
    : args;
  const [name, verb] = words;
  if (name === undefined || (asksHelp && name.startsWith('-'))) return { kind: 'help', subject: undefined };
  if (name.startsWith('-')) {
    throw new PcacheError('USAGE', `${name} precedes the command; give the command first`);
  }
  const command = (id: string, taken: number): Invocation =>
    asksHelp ? { kind: 'help', subject: id } : { kind: 'command', id, args: words.slice(taken) };
  if (verb !== undefined && ids.includes(`${name}:${verb}`)) return command(`${name}:${verb}`, 2);
  const isTopic = ids.some((id) => id.startsWith(`${name}:`));
  const isArgument = verb === undefined || verb.startsWith('-') || /[./]/.test(verb) || exists(verb);
  if (ids.includes(name) && (!isTopic || isArgument)) return command(name, 1);
  if (isTopic && (verb === undefined || verb.startsWith('-'))) return { kind: 'help', subject: name };
  throw unknownCommand(isTopic ? `${name} ${verb}` : name, ids, isTopic && ids.includes(name));
}

function unknownCommand(called: string, ids: readonly string[], mayBeFile: boolean): PcacheError {
  const nearest = nearestName(
    called,
    ids.map((id) => id.replaceAll(':', ' ')),
  );
  const file = mayBeFile ? ', and no such file exists' : '';
  const remedy = nearest === undefined ? '' : `; did you mean '${nearest}'?`;
  return new PcacheError('USAGE', `'${called}' is not a command${file}${remedy}`);
}
