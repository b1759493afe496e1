/**
 * Tests that drive a real program (blkparse, qemu-img, nbdinfo …). Where the program is missing they are
 * skipped with the reason in their title; with PCACHE_REQUIRE_CLIENTS=1, as in CI, they fail instead.
 */
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { describe, it } from 'vitest';

const EXTRA_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** Full path of `binary` in PATH or the system's sbin folders, or undefined. */
export function findClient(binary: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== ''), ...EXTRA_FOLDERS];
  return folders.map((folder) => join(folder, binary)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

export const clientsRequired = process.env['PCACHE_REQUIRE_CLIENTS'] === '1';

/**
 * A `describe` whose tests need `binary`.
 * @param body gets the program's full path; it is not called when the program is missing.
 */
export function describeWithClient(name: string, binary: string, body: (path: string) => void): void {
  const path = findClient(binary);
  if (path !== undefined) {
    describe(name, () => {
      body(path);
    });
  } else if (clientsRequired) {
    it(`${name}: needs ${binary}`, () => {
      throw new Error(`${binary} is not installed, and PCACHE_REQUIRE_CLIENTS=1 requires it`);
    });
  } else {
    it.skip(`${name} (skipped: ${binary} is not installed)`, () => undefined);
  }
}
