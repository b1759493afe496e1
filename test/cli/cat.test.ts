/** `pcache cat` from outside. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runCli } from '../support/cli.js';
import { damagedCopy, hashOf, temporaryFolder } from '../support/cli-images.js';
import { deviceOffset, ksetsOf, writeLast } from '../support/damage/edit.js';
import { describeImages, unpackImage } from '../support/images.js';
import { readFileSync } from 'node:fs';

const folder = temporaryFolder('cat');
const out = join(folder, 'out');

describeImages('cat', (image) => {
  it.each(['on', 'off'])('writes the bytes that the kernel read, with the native helper %s', async (native) => {
    const { cachePath, backingPath } = await unpackImage(image);
    const result = await runCli(['cat', cachePath, backingPath], { env: { PCACHE_NATIVE: native }, stdoutTo: out });
    expect([result.status, result.stderr]).toEqual([0, '']);
    expect(statSync(out).size).toBe(statSync(backingPath).size);
    expect(await hashOf(out)).toBe(image.logicalSha256);
  });
});

describe('cat', () => {
  it('writes any part, byte for byte', async () => {
    const { cachePath, backingPath } = await unpackImage('dirty-crc');
    await runCli(['cat', cachePath, backingPath], { stdoutTo: out });
    const whole = readFileSync(out);
    for (const [offset, length] of [
      ['0', '1'],
      ['4194303', '3'],
      ['1M', '4k'],
      ['1234567', '2MiB'],
    ]) {
      const part = join(folder, 'part');
      const args = ['cat', cachePath, backingPath, '--offset', offset, '--length', length];
      expect((await runCli(args, { stdoutTo: part })).status).toBe(0);
      const start = offset === '1M' ? 1 << 20 : Number(offset);
      const bytes = { '4k': 4096, '2MiB': 2 << 20 }[length] ?? Number(length);
      expect(Buffer.compare(readFileSync(part), whole.subarray(start, start + bytes))).toBe(0);
    }
    const rest = await runCli(['cat', cachePath, backingPath, '--offset', String(whole.length - 5)], { stdoutTo: out });
    expect([rest.status, statSync(out).size]).toEqual([0, 5]);
  });

  it('refuses holes without the backing device, before it writes anything', async () => {
    const { cachePath } = await unpackImage('dirty-crc');
    const { status, stdout, stderr } = await runCli(['cat', cachePath]);
    expect([status, stdout]).toEqual([8, '']);
    expect(stderr).toMatch(/: bytes \d+ to \d+ are not in the cache; give the backing device too\n$/);
  });

  it('refuses a range beyond the device', async () => {
    const { cachePath, backingPath } = await unpackImage('fresh');
    const { status, stderr } = await runCli(['cat', cachePath, backingPath, '--offset', '64M', '--length', '1']);
    expect(status).toBe(8);
    expect(stderr).toMatch(/but the logical device ends at byte 67108864\n$/);
  });

  it('refuses a size that is none', async () => {
    const { status, stderr } = await runCli(['cat', 'x', '--offset', 'soon']);
    expect(status).toBe(16);
    expect(stderr).toMatch(/--offset: 'soon' is not a size/);
  });

  it('refuses a damaged cache with status 4', async () => {
    const path = await damagedCopy(folder, 'dirty-crc', (image) => {
      const { end } = ksetsOf(image);
      writeLast(image, end, 99);
      image.zero(deviceOffset(end) + 24, 24);
    });
    const { status, stdout, stderr } = await runCli(['cat', path]);
    expect([status, stdout]).toEqual([4, '']);
    expect(stderr).toMatch(/the LAST kset at 0:42376 leads to segment 99, which does not exist; run "pcache fsck"/);
  });
});
