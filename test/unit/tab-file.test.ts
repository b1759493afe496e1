/** /etc/pcache/tab: which lines are taken, what they mean, and what is said of the others. */
import { describe, expect, it } from 'vitest';
import { attachArguments, devicePathOf } from '../../src/tab/tab-entry.js';
import { readTab } from '../../src/tab/tab-file.js';

const only = (line: string) => {
  const { entries, problems } = readTab(line);
  expect(problems).toEqual([]);
  expect(entries).toHaveLength(1);
  return entries[0];
};
const refusal = (line: string): string => {
  const { entries, problems } = readTab(line);
  expect(entries).toEqual([]);
  return problems.map(({ text }) => text).join(' | ');
};

describe('a line of the tab', () => {
  it('gives the devices, the way and the options of a cache', () => {
    const entry = only('db /dev/pmem0 /dev/sdb ublk,read-only,metrics=9400,nofail');
    expect(entry).toEqual({
      name: 'db',
      line: 1,
      cachePath: '/dev/pmem0',
      backingPath: '/dev/sdb',
      way: 'ublk',
      options: { 'read-only': true, 'metrics': '9400' },
      drain: false,
      noauto: false,
      nofail: true,
    });
    expect(devicePathOf(entry)).toBe('/dev/pcache/db');
  });

  it.each([
    ['ublk,drain', '--drain --name=db --device=ublk -- /c /b'],
    ['nbd,socket=/run/s', '--socket=/run/s --name=db --device=nbd -- /c /b'],
    ['socket=/run/s,gc-percent=50', '--socket=/run/s --gc-percent=50 -- /c /b'],
    ['port=0,address=::1', '--port=0 --address=::1 -- /c /b'],
    ['kernel,data-crc', '--data-crc --run --kernel=db -- /c /b'],
    ['kernel,drain', '--run --kernel=db -- /c /b'],
  ])('with the options %s is attached by "pcache attach %s"', (options, expected) => {
    expect(attachArguments(only(`db /c /b ${options}`)).join(' ')).toBe(expected);
  });

  it('takes a ublk device over that a dead server has left', () => {
    const args = attachArguments(only('db /c /b ublk'), '/dev/ublkb3');
    expect(args.join(' ')).toBe('--name=db --recover --device=/dev/ublkb3 -- /c /b');
  });

  it('has spaces, tabs, commas, # and backslashes as escapes, and other characters as they are', () => {
    const entry = only('\t db  /a\\040b\\011c\\043\t/ü%$"\'x\\134x20  socket=/run/a\\054b ');
    expect([entry.cachePath, entry.backingPath]).toEqual(['/a b\tc#', '/ü%$"\'x\\x20']);
    expect(entry.options).toEqual({ socket: '/run/a,b' });
  });

  it('is counted from 1, with empty lines and comments', () => {
    const { entries, problems } = readTab('# one\n\n  # two\na /c /b nbd\nb /c\n');
    expect(entries.map(({ line }) => line)).toEqual([4]);
    expect(problems).toEqual([
      {
        severity: 'error',
        line: 5,
        name: 'b',
        text: 'has no backing device; write NAME CACHE BACKING OPTIONS, with \\040 for a space in a path',
      },
    ]);
  });

  it.each([
    ['a/b /c /b nbd', "'a/b' is not a name"],
    ['-a /c /b nbd', "'-a' is not a name"],
    [`${'a'.repeat(65)} /c /b nbd`, 'is not a name; use up to 64'],
    ['control /c /b kernel', 'has a meaning of its own'],
    ['db c /b nbd', "'c' is not an absolute path; begin it with /"],
    ['db /c UUID=1-2 nbd', 'write /dev/disk/by-uuid/1-2'],
    ['db /c/../d /b nbd', 'goes by way of . or ..'],
    ['db /c /c nbd', 'cache and backing device are the same'],
    ['db /c /b', 'has no options'],
    ['db /c /b nbd # why', 'has more than four fields'],
    ['db /c\\012d /b nbd', '\\012 is not an escape'],
    ['db /c\\x20d /b nbd', '\\ is not an escape'],
    ['db /c\x01 /b nbd', 'has a control character'],
    ['db /c /b nbd\r', 'ends with a carriage return'],
    ['db /c /b nofail', 'how it is attached is missing; add kernel, ublk, nbd, or socket=PATH'],
    ['db /c /b nbd,ublk', 'nbd and ublk exclude one another'],
    ['db /c /b nbd,nbd', 'nbd is given twice'],
    ['db /c /b nbd,speed', "'speed' is not an option"],
    ['db /c /b nbd,', "'' is not an option"],
    ['db /c /b nbd,drain=yes', 'drain takes no value'],
    ['db /c /b nbd,socket', 'socket needs a value; write socket=…'],
    ['db /c /b nbd,accept-loss', 'not for every boot'],
    ['db /c /b kernel,read-only', 'read-only cannot be used with kernel'],
    ['db /c /b nbd,read-only,drain', 'drain cannot be used with read-only'],
    ['db /c /b socket=/s,port=1', 'socket cannot be used with port'],
    ['db /c /b nbd,address=::1', 'address needs port'],
    ['db /c /b nbd,noauto,nofail', 'nofail says nothing with noauto'],
  ])('that reads %j is refused: %s', (line, text) => {
    expect(refusal(line)).toContain(text);
  });

  it('with a name that an earlier line has is refused, with the number of that line', () => {
    const { entries, problems } = readTab('db /c /b nbd\ndb /d /e nbd\n');
    expect(entries).toHaveLength(1);
    expect(problems[0]).toMatchObject({ line: 2, text: 'db is in line 1 already; give another name' });
  });
});
