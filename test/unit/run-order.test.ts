import { describe, expect, it } from 'vitest';
import { planned, type TestFile } from '../support/run-order.js';

const file = (path: string, seconds: number, startsMachine = false): TestFile => ({ path, seconds, startsMachine });
const pathsOf = (files: readonly TestFile[]): string[] => files.map(({ path }) => path);

describe('the order of the test files', () => {
  it('begins with the longest ones', () => {
    const files = [file('short', 1), file('long', 9), file('middle', 5)];
    expect(pathsOf(planned(files, 2))).toEqual(['long', 'middle', 'short']);
  });

  it('lets no worker wait for the virtual machine of another file while there is anything else to run', () => {
    const files = [file('vm-a', 100, true), file('vm-b', 90, true), file('a', 60), file('b', 50), file('c', 1)];
    expect(pathsOf(planned(files, 2))).toEqual(['vm-a', 'a', 'b', 'vm-b', 'c']);
  });

  it('leaves out no file when all of them start machines', () => {
    const files = [file('vm-a', 3, true), file('vm-b', 2, true), file('vm-c', 1, true)];
    expect(pathsOf(planned(files, 4))).toEqual(['vm-a', 'vm-b', 'vm-c']);
  });

  it('is the same however the files come, also where they take equally long', () => {
    const files = [file('b', 4), file('a', 4), file('c', 4, true)];
    expect(planned(files, 2)).toEqual(planned([...files].reverse(), 2));
  });
});
