/** Progress on terminals of all widths; what it says is tested in test/unit/output-*. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { PCACHE } from '../support/cli.js';
import { describeWithClient } from '../support/clients.js';
import { unpackImage } from '../support/images.js';

describeWithClient('progress', 'script', (script) => {
  it.each([0, 40, 200])('on a terminal of %i columns leaves the result alone', async (columns) => {
    const { cachePath } = await unpackImage('dirty-crc');
    const command = `stty cols ${columns}; ${process.execPath} ${PCACHE} fsck ${cachePath}`;
    const { stdout } = await promisify(execFile)(script, ['-qec', command, '/dev/null'], { timeout: 60_000 });
    expect(stdout).toContain(`${cachePath}: clean, 9 ksets, 1054 keys`);
    expect(stdout.includes('checking')).toBe(columns > 0);
  });
});
