/** The summary that `pcache attach` prints when it ends. Pure. */
import type { AttachResult } from '../nbd/attach.js';
import { renderFields } from './table.js';
import { formatBytes, formatCount } from './units.js';

export function attachText(result: AttachResult): string {
  const { dirty } = result;
  const fields: [string, string][] = [
    ['requests', `${formatCount(result.requests)} on ${formatCount(result.connections)} connections`],
    ['read', formatBytes(result.readBytes)],
    ['written', formatBytes(result.writeBytes)],
  ];
  if (result.failedRequests > 0) fields.push(['failed', formatCount(result.failedRequests)]);
  if (dirty !== null) {
    const keys = `${formatCount(dirty.dirtyKeys)} keys`;
    fields.push([
      'dirty',
      dirty.dirtyKeys === 0 ? 'nothing' : `${formatBytes(dirty.dirtyBytes)} in ${keys}, kept in the cache`,
    ]);
  }
  if (result.writebackError !== null) fields.push(['write-back', `failed: ${result.writebackError}`]);
  return renderFields(fields);
}

/** Says what stays dirty though it was to be written back. */
export function undrainedText({ dirty, drainError }: AttachResult): string {
  const keys = dirty?.dirtyKeys ?? 0;
  const held = `${formatBytes(dirty?.dirtyBytes ?? 0)} in ${formatCount(keys)} keys`;
  return `not everything was written back: ${held} stay dirty in the cache: ${drainError}`;
}
