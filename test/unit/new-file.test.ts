/** A file that takes its name when it is whole: what lies under that name meanwhile. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { NewFile, writeAll } from '../../src/pack/target.js';

const folder = mkdtempSync(join(tmpdir(), 'pcache-new-file-'));
afterAll(() => rmSync(folder, { recursive: true }));

function written(path: string, force: boolean): NewFile {
  const file = new NewFile(path, force, 0o600);
  writeAll(file.fd, path, Buffer.from('new'), null);
  return file;
}

describe('a new file', () => {
  it('does not replace one that has got its name since it was begun', () => {
    const path = join(folder, 'raced');
    const file = written(path, false);
    writeFileSync(path, 'of another');
    expect(() => file.finish()).toThrow(/already exists; give --force/);
    file.close();
    expect(readFileSync(path, 'utf8')).toBe('of another');
    expect(readdirSync(folder)).toEqual(['raced']);
    rmSync(path);
  });

  it.each([
    ['nothing', undefined, false],
    ['an empty file', '', false],
    ['another file, by force', 'of another', true],
  ])('takes the place of %s', (_, before, force) => {
    const path = join(folder, 'taken');
    const file = written(path, force);
    if (before !== undefined) writeFileSync(path, before);
    file.finish();
    file.close();
    expect(readFileSync(path, 'utf8')).toBe('new');
    expect(readdirSync(folder)).toEqual(['taken']);
    rmSync(path);
  });
});
