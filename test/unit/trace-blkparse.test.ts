/** The readers side by side with the real blkparse, and over the dump that it writes. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { ACTIONS, RECORDINGS, readTrace, temporaryDirectory, unpackedFixture } from './trace-support.js';

const directory = temporaryDirectory();
const installed = spawnSync('blkparse', ['-V']).error === undefined;
const required = process.env.PCACHE_REQUIRE_CLIENTS === '1';
const title =
  installed || required
    ? 'blkparse'
    : 'blkparse (skipped: not installed; PCACHE_REQUIRE_CLIENTS=1 makes this a failure)';

const LETTER = { queue: 'Q', issue: 'D', complete: 'C' };

/** What blkparse says of the requests, in the form of `readTrace`. */
function blkparseLines(base: string, action: (typeof ACTIONS)[number]): string[] {
  const output = execFileSync('blkparse', ['-q', '-i', base, '-f', '%a %T %t %d %S %N\\n'], {
    cwd: directory,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  const lines: string[] = [];
  let first: number | undefined;
  for (const line of output.split('\n')) {
    const [letter, seconds, nanoseconds, rwbs, sector, bytes] = line.split(' ');
    if (letter !== LETTER[action] || (bytes === '0' && !rwbs.startsWith('F'))) continue;
    const timeNs = Number(seconds) * 1e9 + Number(nanoseconds);
    first ??= timeNs;
    const kind = bytes === '0' ? rwbs.replace(/^F[WN]/, 'F') : rwbs;
    lines.push(`${timeNs - first} ${kind} ${bytes === '0' ? 0 : sector} ${bytes}`);
  }
  return lines;
}

describe.skipIf(!installed && !required)(title, () => {
  beforeAll(() => {
    for (const name of RECORDINGS) {
      for (const cpu of [0, 1]) writeFileSync(join(directory, `${name}.blktrace.${cpu}`), unpackedFixture(name, cpu));
      execFileSync('blkparse', ['-q', '-i', name, '-O', '-d', `${name}.dump`], { cwd: directory, stdio: 'ignore' });
      writeFileSync(join(directory, `${name}.dump.gz`), gzipSync(readFileSync(join(directory, `${name}.dump`))));
    }
  });

  describe.each(RECORDINGS)('%s', (name) => {
    it.each(ACTIONS)(
      '%s: the same requests in the same order, from the files, the dump, its gzip and a stream',
      async (action) => {
        const want = blkparseLines(name, action);
        expect(want.length).toBeGreaterThan(500);
        expect((await readTrace(join(directory, name), { action })).lines).toEqual(want);
        const dump = join(directory, `${name}.dump`);
        const fromDump = await readTrace(dump, { action });
        expect(fromDump.lines).toEqual(want);
        expect(fromDump.warnings).toEqual([]);
        expect((await readTrace(`${dump}.gz`, { action })).lines).toEqual(want);
        expect((await readTrace('-', { action, stdin: Readable.from([readFileSync(dump)]) })).lines).toEqual(want);
      },
    );

    it('the same when only one file is read', async () => {
      const one = `${name}-one`;
      writeFileSync(join(directory, `${one}.blktrace.0`), unpackedFixture(name, 0));
      expect((await readTrace(join(directory, `${one}.blktrace.0`))).lines).toEqual(blkparseLines(one, 'queue'));
    });
  });
});
