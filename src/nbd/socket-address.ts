/** Where a server listens that was given no address, and how clients name the address. */
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromSystemError } from '../engine/errors.js';
import type { BoundAddress } from './listen.js';

/** A private folder for a socket. @throws PcacheError when it cannot be made */
export function makeSocketFolder(): { readonly socketPath: string; readonly remove: () => void } {
  const parent = tmpdir();
  let folder: string;
  try {
    folder = mkdtempSync(join(parent, 'pcache-'));
  } catch (error) {
    throw fromSystemError(error, parent, 'making a temporary folder in it; set TMPDIR to one that exists');
  }
  const remove = (): void => {
    try {
      rmdirSync(folder);
    } catch {
      // The command has put something there: it stays.
    }
  };
  return { socketPath: join(folder, 'socket'), remove };
}

export function uriOf(address: BoundAddress, isTls: boolean): string {
  const scheme = isTls ? 'nbds' : 'nbd';
  if ('path' in address) return `${scheme}+unix:///?socket=${encodeURIComponent(address.path).replaceAll('%2F', '/')}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `${scheme}://${host}:${address.port}`;
}
