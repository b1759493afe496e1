/** `pcache dump-keys` from outside. */
import { describe, expect, it } from 'vitest';
import { runCli } from '../support/cli.js';
import { damagedCopy, temporaryFolder } from '../support/cli-images.js';
import { changeKey, ksetsOf } from '../support/damage/edit.js';
import { describeImages, unpackImage } from '../support/images.js';

const folder = temporaryFolder('dump-keys');
const KEYS: Record<string, number> = {
  'fresh': 0,
  'dirty-crc': 1054,
  'gc-wrap': 6713,
  'crash': 25283,
  'last-hop': 450560,
};

interface Row {
  offsetBytes: number;
  lengthBytes: number;
  segment: number;
  state: string;
  kset: number;
  keyIndex: number;
}

async function rows(...args: string[]): Promise<Row[]> {
  const { status, stdout, stderr } = await runCli(['dump-keys', ...args, '--format', 'ndjson']);
  expect([status, stderr]).toEqual([0, '']);
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Row);
}

describeImages('dump-keys', (image) => {
  it.each(['on', 'off'])('lists every key of the log, with the native helper %s', async (native) => {
    const { cachePath, backingPath } = await unpackImage(image);
    const args = ['dump-keys', cachePath, backingPath, '--format', 'csv'];
    const { status, stdout, stderr } = await runCli(args, { env: { PCACHE_NATIVE: native } });
    expect([status, stderr]).toEqual([0, '']);
    const [head, ...lines] = stdout.trimEnd().split('\n');
    expect(head).toBe(
      'ksetSegment,ksetOffsetBytes,kset,keyIndex,offsetBytes,lengthBytes,segment,segmentOffsetBytes,generation,state,flags,dataCrc',
    );
    expect(lines).toHaveLength(KEYS[image.name]);
  });
});

describe('dump-keys', () => {
  it('gives rows as NDJSON, CSV and a table that say the same', async () => {
    const { cachePath } = await unpackImage('dirty-crc');
    const all = await rows(cachePath);
    expect(all).toHaveLength(1054);
    expect(all.filter((row) => row.state === 'clean')).toHaveLength(294);
    expect(all.filter((row) => row.state === 'dirty')).toHaveLength(760);
    expect(all[0]).toMatchObject({ kset: 0, keyIndex: 0 });
    expect(all.at(-1)!.kset).toBe(8);
    expect(Object.keys(all[0])).toHaveLength(12);
    const table = await runCli(['dump-keys', cachePath]);
    const lines = table.stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(1055);
    expect(lines[0].trim().split(/\s{2,}/)[0]).toBe('kset at');
    expect(lines[1].trim().split(/\s+/).slice(3, 5)).toEqual([String(all[0].offsetBytes), String(all[0].lengthBytes)]);
    const json = await runCli(['dump-keys', cachePath, '--json']);
    expect(json.stdout.split('\n')).toHaveLength(1055);
  });

  it('selects by state, range and segment', async () => {
    const { cachePath } = await unpackImage('gc-wrap');
    const all = await rows(cachePath);
    expect(new Set(all.map((row) => row.state))).toEqual(new Set(['written-back', 'dirty', 'clean']));
    const dirty = await rows(cachePath, '--dirty');
    expect(dirty).toEqual(all.filter((row) => row.state === 'dirty'));
    const some = await rows(cachePath, '--offset', '1M-2M');
    expect(some).toEqual(all.filter((row) => row.offsetBytes < 2 << 20 && row.offsetBytes + row.lengthBytes > 1 << 20));
    expect(some.length).toBeGreaterThan(0);
    const segment = all[0].segment;
    const inSegment = await rows(cachePath, '--segment', String(segment), '--dirty');
    expect(inSegment).toEqual(dirty.filter((row) => row.segment === segment));
  });

  it('lists what counts with --live: in logical order, without overlaps', async () => {
    const { cachePath, backingPath } = await unpackImage('gc-wrap');
    const live = await rows(cachePath, backingPath, '--live');
    expect(live).toHaveLength(8769);
    for (let i = 1; i < live.length; i++) {
      expect(live[i].offsetBytes).toBeGreaterThanOrEqual(live[i - 1].offsetBytes + live[i - 1].lengthBytes);
    }
  });

  it('lists the keys up to the damage, then says so and exits 4', async () => {
    const path = await damagedCopy(folder, 'dirty-crc', (image) =>
      changeKey(image, ksetsOf(image).places[4], 3, 'segment', 31),
    );
    const { status, stdout, stderr } = await runCli(['dump-keys', path, '--format', 'csv']);
    expect(status).toBe(4);
    expect(stdout.trimEnd().split('\n')).toHaveLength(1 + 4 * 128 + 3);
    expect(stderr).toMatch(
      /^pcache: .*key 3 of the kset at 0:20576 segment id is out of range; run "pcache fsck" for all of it\n$/,
    );
    expect((await runCli(['dump-keys', path, '--live'])).status).toBe(4);
  });

  it('lists what it can when something else is damaged', async () => {
    const path = await damagedCopy(folder, 'dirty-crc', (image) => image.zero(4096, 4096));
    const { status, stdout, stderr } = await runCli(['dump-keys', path, '--json']);
    expect([status, stdout.split('\n').length]).toEqual([4, 1055]);
    expect(stderr).toMatch(/superblock magic is 0/);
  });

  it.each([
    [['--live', '--log'], /--live.*--log|--log.*--live/],
    [['--format', 'xml'], /xml/],
    [['--offset', '2-1'], /is an empty range/],
    [['--segment', '-1'], /--segment/],
    [['--segment', '31'], /--segment 31: .* has 31 segments; give 0 to 30/],
  ])('refuses %j', async (args, message) => {
    const { cachePath } = await unpackImage('fresh');
    const { status, stdout, stderr } = await runCli(['dump-keys', cachePath, ...args]);
    expect([status, stdout]).toEqual([16, '']);
    expect(stderr).toMatch(message);
  });

  it('refuses --json beside another format', async () => {
    const { cachePath } = await unpackImage('fresh');
    const { status, stderr } = await runCli(['dump-keys', cachePath, '--format', 'csv', '--json']);
    expect(status).toBe(16);
    expect(stderr).toMatch(/--json.*--format|--format.*--json/);
  });
});
