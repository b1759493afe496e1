/** What the operating system says, as the engine says it: one line, the thing by its name, and what to do. */
import { expect, it } from 'vitest';
import { fromSystemError, PcacheError } from '../../src/engine/errors.js';

const systemError = (code: string) => Object.assign(new Error(`${code}: it failed`), { code });

it.each([
  ['ENOENT', 'NOT_FOUND', 'check the path'],
  ['EACCES', 'NO_ACCESS', 'check its owner and mode'],
  ['EPERM', 'NO_ACCESS', 'check its owner and mode'],
  ['EROFS', 'NO_ACCESS', 'read-only filesystem'],
  ['EISDIR', 'NOT_A_DEVICE', 'is a directory'],
  ['EBUSY', 'BUSY', 'stop that use first'],
  ['ENOSPC', 'NO_SPACE', 'free some space'],
  ['EDQUOT', 'NO_SPACE', 'free some space'],
  ['EFBIG', 'NO_SPACE', 'raise the limit or make it smaller'],
  ['ENXIO', 'NOT_A_DEVICE', 'no such device is present'],
  ['ENODEV', 'NOT_A_DEVICE', 'no such device is present'],
  ['EIO', 'IO', 'EIO while reading it'],
])('%s is %s', (code, expected, text) => {
  const cause = systemError(code);
  const error = fromSystemError(cause, '/dev/some', 'reading it');
  expect(error).toMatchObject({ code: expected, cause });
  expect(error.message.startsWith('/dev/some: ')).toBe(true);
  expect(error.message).toContain(text);
});

it('takes what is no error of the system for one of I/O, and leaves its own alone', () => {
  expect(fromSystemError('odd', '/dev/some', 'reading it').message).toBe('/dev/some: error while reading it: odd');
  const own = new PcacheError('BUSY', 'x');
  expect(fromSystemError(own, '/dev/some', 'reading it')).toBe(own);
});
