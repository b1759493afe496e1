/**
 * Runs the command line: shows help or runs a command, and turns its end into text and an exit status. The only
 * place that ends the process.
 */
import { existsSync } from 'node:fs';
import { userInfo } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Config } from '@oclif/core';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { builtin } from '../layout/builtin.js';
import { bundledConfig, type BundledCommands } from './bundled-config.js';
import { shown } from './charset.js';
import { describeError, errorJson, errorLines } from './error-report.js';
import { helpText } from './help.js';
import { readInvocation } from './invocation.js';
import { theSession } from './session.js';
import { makeStyle, OutputClosedError, terminalColumns, wantsColour } from './terminal.js';

/**
 * The way of a request is a chain of small functions. With what V8 allows for inlining by itself (920) it is compiled in
 * several pieces that call one another, which costs 2 to 8 % of the request.
 */
const INLINING_FLAG = '--max-inlined-bytecode-size-cumulative=2000';
/** V8 complains about flags that it does not have; this one is known up to here. */
const INLINING_V8_MAX = 13;
/**
 * First words of the commands that run requests; `tab attach` runs `attach` in its own process. The others start sooner
 * without the module that sets flags.
 */
const REQUEST_COMMANDS = ['attach', 'bench', 'replay', 'tab', 'writeback'];

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
  const args = process.argv.slice(2);
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
    nameUnknownUser(process.env);
    refuseNonUtf8(args);
    const config = typeof source === 'string' ? await Config.load(fileURLToPath(source)) : await bundledConfig(source);
    const invocation = readInvocation(args, config.commandIDs, existsSync);
    if (invocation.kind === 'command') {
      if (REQUEST_COMMANDS.includes(invocation.id.split(':')[0])) allowInlining();
      helpCommand = `pcache ${invocation.id.replaceAll(':', ' ')} --help`;
      await config.runCommand(invocation.id, [...invocation.args]);
    } else {
      theSession.output.write(
        invocation.kind === 'version' ? `${config.userAgent}\n` : helpOn(config, invocation.subject),
      );
    }
    await theSession.interrupts.close();
  } catch (error) {
    fail(error);
  }
  await end(fail);
}

function allowInlining(): void {
  if (parseInt(process.versions.v8, 10) > INLINING_V8_MAX) return;
  builtin('node:v8').setFlagsFromString(INLINING_FLAG);
}

/**
 * oclif asks the system's list of users for what the environment does not say, and fails where this user is not in it:
 * in a rescue system, or a container that runs under any number.
 */
function nameUnknownUser(environment: NodeJS.ProcessEnv): void {
  if (environment['HOME'] !== undefined && environment['SHELL'] !== undefined) return;
  try {
    userInfo();
  } catch {
    environment['HOME'] ??= '/';
    environment['SHELL'] ??= '/bin/sh';
  }
}

/** Node.js turns bytes that are not UTF-8 into U+FFFD: a file would not be found, or be created under another name. */
function refuseNonUtf8(args: readonly string[]): void {
  const changed = args.find((arg) => arg.includes('\ufffd'));
  if (changed === undefined) return;
  throw new PcacheError('USAGE', `argument '${changed}' is not UTF-8; give the file a name, or a link to it, in UTF-8`);
}

function wantsFlag(args: readonly string[], flag: string): boolean {
  const rest = args.indexOf('--');
  return (rest < 0 ? args : args.slice(0, rest)).includes(flag);
}

/** Help texts become hard to read when they are wider. */
const HELP_COLUMNS_MAX = 100;

function helpOn(config: Config, subject: string | undefined): string {
  const { bin, version, commands, pjson } = config;
  const style = makeStyle(wantsColour(theSession.output.isTerminal, process.env));
  const widthColumns = Math.min(terminalColumns(process.stdout, process.env), HELP_COLUMNS_MAX);
  const description = typeof pjson['description'] === 'string' ? pjson['description'] : '';
  const source = { bin, version, description, commands };
  return shown(helpText(source, subject, { widthColumns, bold: (text) => style.bold(text) }));
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
  if (theSession.hasStuckThreads) process.kill(process.pid, 'SIGKILL');
  process.exit(theSession.interrupts.status ?? theSession.exitStatus);
}
