/**
 * Results of `pcache replay --json` that were saved in files. Files are input: whatever another version or another program
 * wrote into them, a value that is missing or of another kind is null, and a timeline that is not whole is none.
 */
import { readFileSync } from 'node:fs';
import { fromSystemError, PcacheError } from '../engine/errors.js';

/** More bins than any timeline has; a file with more was made by something else. */
const BINS_MAX = 4096;
/** What still fits beside one another. */
const RESULTS_MAX = 8;

/** A result read from a file. */
export class SavedResult {
  constructor(
    readonly path: string,
    private readonly content: object,
  ) {}

  /** The value at `path`, such as `requests.reads`, or undefined. */
  valueAt(path: string): unknown {
    let value: unknown = this.content;
    for (const name of path.split('.')) {
      if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
      value = (value as Record<string, unknown>)[name];
    }
    return value;
  }

  numberAt(path: string): number | null {
    const value = this.valueAt(path);
    return typeof value === 'number' ? value : null;
  }

  plainAt(path: string): string | number | boolean | null {
    const value = this.valueAt(path);
    return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? value : null;
  }

  /** A column of the timeline: a number for each bin, null where it has none; undefined if there is no such column. */
  columnAt(path: string): readonly (number | null)[] | undefined {
    const value = this.valueAt(`timeline.${path}`);
    if (!Array.isArray(value) || value.length === 0 || value.length > BINS_MAX) return undefined;
    return value.map((one: unknown) => (typeof one === 'number' && Number.isFinite(one) ? one : null));
  }
}

/**
 * The results to compare.
 * @throws PcacheError USAGE for fewer than two or more than eight, and what reading them throws
 */
export function loadResults(paths: readonly string[]): SavedResult[] {
  if (paths.length < 2) throw new PcacheError('USAGE', '--diff compares results; give A.json and B.json');
  if (paths.length > RESULTS_MAX) {
    throw new PcacheError('USAGE', `--diff compares at most ${RESULTS_MAX} results; ${paths.length} were given`);
  }
  return paths.map(loadResult);
}

/** @throws PcacheError BAD_RESULT for a file that is not a result for one cache size, NOT_FOUND, NO_ACCESS or IO */
function loadResult(path: string): SavedResult {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw fromSystemError(error, path, 'reading the result');
  }
  const wrong = (what: string): PcacheError =>
    new PcacheError('BAD_RESULT', `${path}: ${what}; save a result with "pcache replay TRACE --json > FILE"`);
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    throw wrong('not a JSON document');
  }
  if (typeof content !== 'object' || content === null) throw wrong('not a result of "pcache replay"');
  const result = new SavedResult(path, content);
  const message = result.valueAt('error.message');
  if (typeof message === 'string') throw wrong(`result of a failed run (${message})`);
  if (Array.isArray(result.valueAt('curve')))
    throw wrong('result of --sizes or --curve; only results for one size can be compared');
  const known = ['requests.total', 'devices.cacheBytes', 'writeback.bytes'].every((at) => result.numberAt(at) !== null);
  if (!known) throw wrong('not a result of "pcache replay"');
  return result;
}
