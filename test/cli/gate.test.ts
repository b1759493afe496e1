/**
 * The gate before commands that open a cache, from outside: a log that is cut short is never attached, read or written
 * back in silence. The cut leaves metadata and everything before it good, so that only a check sees it.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from '../support/cli.js';
import { damagedCopy, hashOf, temporaryFolder, writableCopy } from '../support/cli-images.js';
import { deviceOffset, flip, ksetsOf } from '../support/damage/edit.js';
import { unpackImage } from '../support/images.js';

const folder = temporaryFolder('gate');
let cache: string;
let backing: string;
let hashes: string[];
const hashesNow = async (): Promise<string[]> => [await hashOf(cache), await hashOf(backing)];

beforeAll(async () => {
  cache = await damagedCopy(folder, 'dirty-crc', (image) => flip(image, deviceOffset(ksetsOf(image).places[4]) + 124));
  backing = writableCopy(folder, (await unpackImage('dirty-crc')).backingPath);
  hashes = await hashesNow();
});

// None of the commands below may change either device.
afterAll(async () => expect(await hashesNow()).toEqual(hashes));

const LINE =
  /^pcache: .*-damaged\.pmem: dirty data may be lost or old: LOG_CUT_SHORT kset 0:20576: .*; run "pcache fsck .*" first, or give --accept-loss\n$/;

describe('a cache whose log is cut short', () => {
  it.each([
    ['cat', ['--length', '4k']],
    ['writeback', []],
    ['writeback', ['--dry-run']],
    ['attach', ['--socket', join(folder, 'socket'), '--exec', 'true']],
    ['attach', ['--socket', join(folder, 'socket'), '--exec', 'true', '--read-only']],
  ])('is refused by %s %j in one line', async (command, flags) => {
    const { status, stdout, stderr } = await runCli([command, cache, backing, ...flags]);
    expect([status, stdout]).toEqual([4, '']);
    expect(stderr).toMatch(LINE);
    expect(existsSync(join(folder, 'socket'))).toBe(false);
  });

  it.each([['info'], ['dump-keys'], ['dump-keys', '--live'], ['map', '0-1M']])(
    'is shown by %s %s with a warning and status 4',
    async (command, ...args) => {
      const { status, stdout, stderr } = await runCli([command, cache, backing, ...args]);
      expect(status).toBe(4);
      expect(stdout.length).toBeGreaterThan(100);
      expect(stderr).toMatch(
        /^pcache: .*: dirty data may be lost or old: LOG_CUT_SHORT .*; run "pcache fsck .*" first\n$/,
      );
    },
  );

  it('is packed whole, with a warning and status 4', async () => {
    const pack = join(folder, 'pack');
    const { status, stderr } = await runCli(['pack', cache, pack]);
    expect([status, existsSync(pack)]).toEqual([4, true]);
    expect(stderr).toMatch(/^pcache: .*: dirty data may be lost or old: LOG_CUT_SHORT /);
  });

  it('has its losses in the JSON of info and map', async () => {
    for (const args of [['info'], ['map', '0']]) {
      const { status, stdout } = await runCli([args[0], cache, backing, ...args.slice(1), '--json']);
      expect(status).toBe(4);
      expect((JSON.parse(stdout) as { losses: { code: string }[] }).losses.map(({ code }) => code)).toEqual([
        'LOG_CUT_SHORT',
      ]);
    }
  });

  it('passes with --accept-loss, which names what was accepted', async () => {
    const accepted = /^pcache: .*: accepted: LOG_CUT_SHORT kset 0:20576: /;
    const cat = await runCli(['cat', cache, backing, '--accept-loss', '--length', '4k']);
    expect([cat.status, cat.stdout.length > 0]).toEqual([0, true]);
    expect(cat.stderr).toMatch(accepted);
    const attach = await runCli(['attach', cache, backing, '--read-only', '--exec', 'true', '--accept-loss']);
    expect(attach.status).toBe(0);
    expect(attach.stderr).toMatch(accepted);
    const writeback = await runCli(['writeback', cache, backing, '--accept-loss', '--dry-run', '--json']);
    expect(JSON.parse(writeback.stdout)).toMatchObject({ ksets: 4, findings: [{ code: 'LOG_CUT_SHORT' }] });
  });
});
