/**
 * Error messages: one line for bad usage and for errors of the environment, a stack for a bug, and the exit status
 * (as in fsck(8)). Pure: returns text, writes nothing.
 */
import { stripVTControlCharacters } from 'node:util';
import { Errors } from '@oclif/core';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { versioned } from './json.js';
import { reworded } from './parser-messages.js';
import { OutputClosedError } from './terminal.js';

export interface ErrorReport {
  readonly exitStatus: number;
  /** Stable code for `--json`: one of `PcacheErrorCode`, or `BUG`. */
  readonly code: string;
  /** One line. */
  readonly message: string;
  /** Text after the line on standard error: a hint, or the stack of a bug. */
  readonly detail: string;
}

/** Fields of oclif's parser errors. */
interface ParserError extends Error {
  readonly args?: readonly (string | { readonly name: string })[];
  readonly flags?: readonly string[];
}

const SEE_HELP = /\n+See more help with --help\s*$/;

function oneLine(text: string): string {
  return text.replace(SEE_HELP, '').replace(/\s+/g, ' ').trim();
}

function names(list: readonly (string | { readonly name: string })[] = []): string {
  return list.map((item) => (typeof item === 'string' ? item : item.name.toUpperCase())).join(', ');
}

function plural(count: number | undefined, noun: string): string {
  return count === undefined || count === 1 ? noun : `${noun}s`;
}

/** The parser's message in our words; other messages of the parser are put on one line. */
function usageMessage(error: ParserError): string {
  switch (error.constructor.name) {
    case 'NonExistentFlagsError':
      return `unknown ${plural(error.flags?.length, 'flag')} ${names(error.flags)}`;
    case 'RequiredArgsError':
      return `missing ${plural(error.args?.length, 'argument')} ${names(error.args)}`;
    case 'UnexpectedArgsError':
      return `unexpected ${plural(error.args?.length, 'argument')} ${names(error.args)}`;
    case 'FailedFlagValidationError':
      return failedChecks(error.message);
    default:
      return withoutPrefix(error.message, reworded);
  }
}

/** Names the flag as a prefix of our own where the parser has put its own before an error of a parse function. */
function withoutPrefix(message: string, change: (text: string) => string = (text) => text): string {
  const match = /^Parsing (--\S+)\s*\n\t([\s\S]*)$/.exec(message);
  return match === null ? change(oneLine(message)) : `${match[1]}: ${change(oneLine(match[2]))}`;
}

/** Each line under the heading of the parser names one flag that does not go with the others. */
function failedChecks(message: string): string {
  const [, ...reasons] = message.replace(SEE_HELP, '').split('\n');
  // On a terminal the parser dims its reasons.
  return reasons.map((reason) => reworded(stripVTControlCharacters(reason).trim())).join('; ');
}

/**
 * @param helpCommand command that shows help, such as `pcache format --help`.
 * @returns undefined when the reader of standard output has closed it, which is not an error.
 */
export function describeError(error: unknown, helpCommand: string): ErrorReport | undefined {
  if (error instanceof OutputClosedError) return undefined;
  if (error instanceof PcacheError) {
    const detail = error.code === 'USAGE' ? `Try '${helpCommand}'.` : '';
    return { exitStatus: error.exitStatus, code: error.code, message: withoutPrefix(error.message), detail };
  }
  if (error instanceof Errors.ExitError) {
    const exitStatus = error.oclif.exit ?? ExitStatus.operationalError;
    return { exitStatus, code: 'EXIT', message: '', detail: '' };
  }
  if (error instanceof Errors.CLIError && !(error instanceof Errors.ModuleLoadError)) {
    return {
      exitStatus: ExitStatus.usageError,
      code: 'USAGE',
      message: usageMessage(error),
      detail: `Try '${helpCommand}'.`,
    };
  }
  const message = error instanceof Error ? oneLine(error.message) : `threw ${String(error)}`;
  const stack = error instanceof Error ? (error.stack ?? '') : '';
  return {
    exitStatus: ExitStatus.operationalError,
    code: 'BUG',
    message,
    detail: `${stack}\nThis is a bug in pcache; please report it with the lines above.`,
  };
}

/** The report as lines for standard error. */
export function errorLines(report: ErrorReport): string {
  if (report.message === '' && report.detail === '') return '';
  return `pcache: ${report.message}\n${report.detail === '' ? '' : `${report.detail}\n`}`;
}

/** The report as the JSON document of a command that failed with `--json`. */
export function errorJson(report: ErrorReport): string {
  return `${JSON.stringify(versioned({ error: { code: report.code, message: report.message } }), null, 2)}\n`;
}
