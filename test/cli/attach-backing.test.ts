/** `pcache attach` and the backing device it is given: what the cache has written back to it must be there. */
import { closeSync, openSync, symlinkSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { runCli } from '../support/cli.js';
import { hashOf, temporaryFolder, writableCopy } from '../support/cli-images.js';
import { unpackImage } from '../support/images.js';

const folder = temporaryFolder('attach-backing');
const MIB = 1 << 20;
const BACKING_BYTES = 96 * MIB;
let cache: string;
let backing: string;

beforeAll(async () => {
  const image = await unpackImage('gc-wrap');
  cache = writableCopy(folder, image.cachePath);
  backing = writableCopy(folder, image.backingPath);
});

const attach = (device: string, ...flags: string[]) => runCli(['attach', cache, device, '--exec', 'true', ...flags]);

const DIFFERS =
  /^pcache: .*: \d+ of \d+ samples of data that .* has written back or read from it differ, the first at bytes \d+ to \d+: it is another device, or was written to without the cache; give the right one, or --force-backing\n$/;

describe('a backing device that is not that of the cache', () => {
  it.each([['--read-only'], []])('is refused by attach %s, and neither device is changed', async (...flags) => {
    const other = join(folder, 'other');
    writeFileSync(other, '');
    truncateSync(other, BACKING_BYTES);
    const before = [await hashOf(cache), await hashOf(other)];
    const { status, stdout, stderr } = await attach(other, ...flags);
    expect([status, stdout]).toEqual([4, '']);
    expect(stderr).toMatch(DIFFERS);
    expect([await hashOf(cache), await hashOf(other)]).toEqual(before);
    const forced = await attach(other, '--read-only', '--force-backing');
    expect([forced.status, forced.stderr]).toEqual([0, expect.stringContaining('serving 96 MiB')]);
  });

  it('is refused when it is the right one and was written to without the cache', async () => {
    const changed = writableCopy(folder, backing, 'changed');
    const fd = openSync(changed, 'r+');
    // A filesystem that was mounted changes some places only.
    for (let at = 0; at < BACKING_BYTES; at += 8 * MIB)
      writeSync(fd, Buffer.alloc(2 * MIB, 'changed '), 0, 2 * MIB, at);
    closeSync(fd);
    const { status, stderr } = await attach(changed);
    expect(status).toBe(4);
    expect(stderr).toMatch(DIFFERS);
  });

  it('is taken when it is the right one by another path', async () => {
    const link = join(folder, 'link');
    symlinkSync(backing, link);
    expect((await attach(link, '--read-only')).status).toBe(0);
    expect((await attach(link)).status).toBe(0);
  });
});
