/**
 * Runs the command line: hands the arguments to oclif, and turns however that ends into text and an exit
 * status. The only place that ends the process.
 */
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { Config } from '@oclif/core';
import { Help, normalizeArgv } from '@oclif/core/help';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { bundledConfig, type BundledCommands } from './bundled-config.js';
import { describeError, errorJson, errorLines } from './error-report.js';
import { nearestName } from './nearest-name.js';
import { theSession } from './session.js';
import { OutputClosedError } from './terminal.js';

/**
 * The way of a request is a chain of small functions. With what V8 allows for inlining by itself (920) it is compiled in
 * several pieces that call one another, which costs 2 to 8 % of the request.
 */
const INLINING_FLAG = '--max-inlined-bytecode-size-cumulative=2000';
/** V8 complains about flags that it does not have; this one is known up to here. */
const INLINING_V8_MAX = 13;

export interface MainOptions {
  /** Prints the stack of every error, with source maps. */
  readonly development?: boolean;
}

/**
 * Runs one command and ends the process.
 * @param source `import.meta.url` of the script in `bin/`, from which oclif finds the commands; or the commands of
 *   a bundle.
 */
export async function main(source: string | BundledCommands, options: MainOptions = {}): Promise<void> {
  const args = helpWordAsFlag(process.argv.slice(2));
  if (parseInt(process.versions.v8, 10) <= INLINING_V8_MAX) setFlagsFromString(INLINING_FLAG);
  takeOverStreams();
  if (options.development === true) process.setSourceMapsEnabled(true);
  let helpCommand = 'pcache --help';
  const fail = (error: unknown): void => {
    report(error, helpCommand, wantsFlag(args, '--json'), options.development === true);
  };
  process.on('uncaughtException', (error) => {
    fail(error);
    process.exit(theSession.exitStatus);
  });
  try {
    const config = typeof source === 'string' ? await Config.load(fileURLToPath(source)) : await bundledConfig(source);
    helpCommand = checkCommand(config, args);
    await dispatch(config, args);
    await theSession.interrupts.close();
  } catch (error) {
    fail(error);
  }
  await end(fail);
}

/** `pcache help format` is `pcache format --help`. */
function helpWordAsFlag(args: readonly string[]): string[] {
  return args[0] === 'help' ? [...args.slice(1, 2), '--help'] : [...args];
}

function wantsFlag(args: readonly string[], flag: string): boolean {
  const rest = args.indexOf('--');
  return (rest < 0 ? args : args.slice(0, rest)).includes(flag);
}

/** Refuses an unknown command in one line. @returns what to run for help on the command. */
function checkCommand(config: Config, args: readonly string[]): string {
  const [name] = args;
  if (name === undefined || name.startsWith('-')) {
    if (name !== undefined && !['--help', '--version'].includes(name)) {
      throw new PcacheError('USAGE', `${name} comes before any command; give a command first`);
    }
    return 'pcache --help';
  }
  if (config.findCommand(name) !== undefined) return `pcache ${name} --help`;
  const [, verb] = args;
  const isTopic = config.findTopic(name) !== undefined;
  if (isTopic && (verb === undefined || verb === '--help')) return `pcache ${name} --help`;
  const called = isTopic ? `${name} ${verb}` : name;
  const known = config.commandIDs.map((id) => id.replaceAll(':', ' '));
  if (isTopic && known.includes(called)) return `pcache ${called} --help`;
  const nearest = nearestName(called, known);
  const remedy = nearest === undefined ? '' : `; did you mean '${nearest}'?`;
  throw new PcacheError('USAGE', `'${called}' is not a command${remedy}`);
}

/** Shows help, or runs a command. oclif's own `run` would load its configuration a second time. */
async function dispatch(config: Config, args: readonly string[]): Promise<void> {
  const [id, ...rest] = normalizeArgv(config, [...args]);
  const isTopic = id !== undefined && config.findCommand(id) === undefined;
  if (isTopic) return new Help(config).showHelp([id]);
  if (args.length === 0 || wantsFlag(args, '--help')) return new Help(config).showHelp([...args]);
  await config.runCommand(id, rest);
}

/** Takes the streams' error events from oclif, which would rethrow anything but EPIPE as a crash. */
function takeOverStreams(): void {
  process.stdout.removeAllListeners('error');
  theSession.output.listen();
  process.stderr.on('error', () => undefined);
}

function report(error: unknown, helpCommand: string, json: boolean, development: boolean): void {
  const found = describeError(error, helpCommand);
  if (found === undefined) return;
  theSession.exitStatus = found.exitStatus;
  theSession.writeError(errorLines(found));
  if (development && found.code !== 'BUG') theSession.writeError(`${(error as Error).stack ?? ''}\n`);
  if (!json || found.message === '') return;
  try {
    theSession.output.write(errorJson(found));
  } catch (closed) {
    if (!(closed instanceof OutputClosedError)) theSession.exitStatus = ExitStatus.operationalError;
  }
}

/** Lets the output drain, then exits: nothing that a failed command left open may keep the process alive. */
async function end(fail: (error: unknown) => void): Promise<void> {
  try {
    await theSession.output.flushed();
  } catch (error) {
    fail(error);
  }
  process.exit(theSession.interrupts.status ?? theSession.exitStatus);
}
