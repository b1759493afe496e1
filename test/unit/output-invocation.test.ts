/** Which command, help text or version the words of a command line ask for. */
import { describe, expect, it } from 'vitest';
import { PcacheError } from '../../src/engine/errors.js';
import { readInvocation } from '../../src/output/invocation.js';

const IDS = ['bench', 'bench:crc', 'fsck', 'info', 'trace:convert', 'trace:info'];
const read = (line: string, files: readonly string[] = []) =>
  readInvocation(line === '' ? [] : line.split(' '), IDS, (path) => files.includes(path));

it.each(['-v', '-V', '--version', 'version'])('%s asks for the version', (word) => {
  expect(read(word)).toEqual({ kind: 'version' });
});

it.each([
  ['', undefined],
  ['-h', undefined],
  ['--help', undefined],
  ['help', undefined],
  ['help info', 'info'],
  ['info -h', 'info'],
  ['info --help', 'info'],
  ['help trace', 'trace'],
  ['trace', 'trace'],
  ['trace -h', 'trace'],
  ['help trace convert', 'trace:convert'],
  ['trace convert --help', 'trace:convert'],
  ['bench -h', 'bench'],
  ['help bench crc', 'bench:crc'],
])('"%s" asks for help on %s', (line, subject) => {
  expect(read(line)).toEqual({ kind: 'help', subject });
});

it.each([
  ['info x.img', 'info', ['x.img']],
  ['info -- -h', 'info', ['--', '-h']],
  ['trace info t', 'trace:info', ['t']],
  ['bench', 'bench', []],
  ['bench --jobs 2', 'bench', ['--jobs', '2']],
  ['bench ./cache back', 'bench', ['./cache', 'back']],
  ['bench /dev/pmem0 /dev/sdb', 'bench', ['/dev/pmem0', '/dev/sdb']],
  ['bench crc --json', 'bench:crc', ['--json']],
])('"%s" runs %s', (line, id, args) => {
  expect(read(line)).toEqual({ kind: 'command', id, args });
});

it('a file named as the argument of a command that is a topic as well is taken as one', () => {
  expect(read('bench cache', ['cache'])).toEqual({ kind: 'command', id: 'bench', args: ['cache'] });
});

describe('words that name no command are refused', () => {
  it.each([
    ['inof', "'inof' is not a command; did you mean 'info'?"],
    ['trace covnert x', "'trace covnert' is not a command; did you mean 'trace convert'?"],
    ['bench foo', "'bench foo' is not a command, and no such file exists; did you mean 'bench crc'?"],
    ['--json info', '--json precedes the command; give the command first'],
  ])('%s', (line, message) => {
    expect(() => read(line)).toThrow(new PcacheError('USAGE', message));
  });
});
