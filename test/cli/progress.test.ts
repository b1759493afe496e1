/** Progress on terminals of all widths; what it says is tested in test/unit/output-*. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { PCACHE } from '../support/cli.js';
import { describeWithClient } from '../support/clients.js';
import { unpackImage } from '../support/images.js';

describeWithClient('progress', 'script', (script) => {
  /** What a terminal of that width shows, in pieces between the commands that clear a line. */
  async function onTerminal(command: string, columns: number, environment = ''): Promise<string> {
    const line = `stty cols ${columns}; ${environment} ${process.execPath} ${PCACHE} ${command}`;
    const { stdout } = await promisify(execFile)(script, ['-qec', line, '/dev/null'], { timeout: 60_000 });
    return stdout;
  }

  it.each([0, 40, 200])('on a terminal of %i columns leaves the result alone', async (columns) => {
    const { cachePath } = await unpackImage('dirty-crc');
    const stdout = await onTerminal(`fsck ${cachePath}`, columns);
    expect(stdout).toContain(`${cachePath}: clean, 9 ksets, 1054 keys`);
    expect(stdout.includes('checking')).toBe(columns > 0);
  });

  it('of fsck has a total, which the check reaches', async () => {
    const { cachePath, backingPath } = await unpackImage('crash');
    const stdout = await onTerminal(`fsck ${cachePath} ${backingPath}`, 200);
    const totals = [...stdout.matchAll(/checking \S+ {2}([\d.]+) MiB of ([\d.]+) MiB {2}([\d.]+)%/g)];
    expect(totals.length).toBeGreaterThan(0);
    const examined = /([\d.]+) MiB read/.exec(stdout)![1];
    // The image of 512 MiB holds less: the total is of what is checked.
    expect(Number(totals[0][2])).toBeGreaterThan(0.9 * Number(examined));
    expect(Number(totals[0][2])).toBeLessThan(1.1 * Number(examined));
  });

  it('of unpack has the size of the device as its total', async () => {
    const { cachePath } = await unpackImage('dirty-crc');
    const stdout = await onTerminal(`pack ${cachePath} ${cachePath}.pack`, 200);
    expect(stdout).toContain('.pack');
    const unpacked = await onTerminal(`unpack ${cachePath}.pack ${cachePath}.again`, 200);
    const shares = [...unpacked.matchAll(/unpacking {2}[\d.]+ \w+ of 512 MiB {2}([\d.]+)%/g)].map((match) =>
      Number(match[1]),
    );
    expect(shares.length).toBeGreaterThan(0);
    expect(shares).toEqual([...shares].sort((a, b) => a - b));
  });

  it('of bench counts up to 100% of the filling and of the measurement', { timeout: 60_000 }, async () => {
    const run = 'bench --seconds 1 --cache-size 512MiB --span 64MiB';
    const stdout = await onTerminal(run, 200);
    const shares = (pattern: RegExp) => [...stdout.matchAll(pattern)].map((match) => Number(match[1]));
    const filled = shares(/filling the cache {2}[\d,]+ of 16,384 {2}([\d.]+)%/g);
    const measured = shares(/measuring {2}([\d.]+)%/g);
    for (const numbers of [filled, measured]) {
      expect(numbers.length).toBeGreaterThan(0);
      expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
      expect(numbers.at(-1)).toBeLessThanOrEqual(100);
    }
    expect(measured[0]).toBe(0);
    expect(measured.at(-1)).toBeGreaterThan(50);
  });

  it('is ASCII only in the locale C', async () => {
    const { cachePath } = await unpackImage('dirty-crc');
    const stdout = await onTerminal(`fsck ${cachePath}`, 120, 'LC_ALL=C');
    expect(stdout).toContain('checking');
    expect(stdout).not.toMatch(/[^\0-\x7f]/);
  });
});
