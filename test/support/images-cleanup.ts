/** Vitest's global set-up: removes this run's unpacked images when the run is over. */
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Folder of a run's unpacked images, by the process id of vitest itself. */
export function imagesFolderOf(vitestPid: number): string {
  return join(tmpdir(), `pcache-test-images-${vitestPid}`);
}

export async function teardown(): Promise<void> {
  await rm(imagesFolderOf(process.pid), { recursive: true, force: true });
}
