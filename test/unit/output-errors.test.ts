/** How a command's end is told, interrupts, progress text, colour, and the guess at mistyped names. */
import { EventEmitter } from 'node:events';
import { Errors } from '@oclif/core';
import { describe, expect, it } from 'vitest';
import { assert as engineAssert, PcacheError } from '../../src/engine/errors.js';
import { readNativeSwitch } from '../../src/output/base-command.js';
import { describeError, errorJson, errorLines } from '../../src/output/error-report.js';
import { Interrupts } from '../../src/output/interrupt.js';
import { nearestName } from '../../src/output/nearest-name.js';
import { progressText } from '../../src/output/progress.js';
import { makeStyle, OutputClosedError, wantsColour } from '../../src/output/terminal.js';

describe('describeError', () => {
  it('tells an error of the environment in one line with its status', () => {
    const report = describeError(new PcacheError('BUSY', '/dev/x: in use'), 'pcache format --help')!;
    expect(report).toMatchObject({ exitStatus: 8, code: 'BUSY' });
    expect(errorLines(report)).toBe('pcache: /dev/x: in use\n');
    expect(JSON.parse(errorJson(report))).toEqual({
      schemaVersion: 1,
      error: { code: 'BUSY', message: '/dev/x: in use' },
    });
  });

  it('keeps a status that the error brings', () => {
    expect(describeError(new PcacheError('VERIFY_FAILED', 'x', { exitStatus: 4 }), '')!.exitStatus).toBe(4);
  });

  it('adds a hint to bad usage', () => {
    const report = describeError(new PcacheError('USAGE', 'no'), 'pcache format --help')!;
    expect(report.exitStatus).toBe(16);
    expect(errorLines(report)).toBe("pcache: no\nTry 'pcache format --help'.\n");
  });

  it('calls everything unknown a bug, with its stack', () => {
    let thrown: unknown;
    try {
      engineAssert(1 + 1 === 3, 'sums add up');
    } catch (error) {
      thrown = error;
    }
    for (const error of [thrown, new TypeError('x is undefined')]) {
      const report = describeError(error, '')!;
      expect(report).toMatchObject({ exitStatus: 8, code: 'BUG' });
      expect(report.detail).toContain('output-errors.test.ts');
      expect(report.detail).toContain('This is a bug in pcache; please report it');
    }
    expect(describeError('a string', '')).toMatchObject({ exitStatus: 8, code: 'BUG', message: 'threw a string' });
  });

  it('does not take a file that fails to load for bad usage', () => {
    expect(describeError(new Errors.ModuleLoadError('cannot load'), '')).toMatchObject({ exitStatus: 8, code: 'BUG' });
  });

  it('has nothing to tell when the reader of the output left', () => {
    expect(describeError(new OutputClosedError(), '')).toBeUndefined();
  });
});

describe('Interrupts', () => {
  function setUp(): { source: EventEmitter; notes: string[]; killed: string[]; interrupts: Interrupts } {
    const source = new EventEmitter();
    const notes: string[] = [];
    const killed: string[] = [];
    const interrupts = new Interrupts(
      source,
      (text) => notes.push(text),
      (signal) => killed.push(signal),
    );
    return { source, notes, killed, interrupts };
  }

  it('leaves the signals alone until somebody asks', () => {
    const { source, interrupts } = setUp();
    expect(source.listenerCount('SIGINT')).toBe(0);
    const release = interrupts.add(() => undefined);
    expect(source.listenerCount('SIGINT')).toBe(1);
    release();
    expect(source.listenerCount('SIGINT')).toBe(0);
  });

  it('calls back once, last registered first, and kills on the second signal', async () => {
    const { source, notes, killed, interrupts } = setUp();
    const calls: string[] = [];
    interrupts.add(() => void calls.push('first'));
    interrupts.add(async () => {
      await Promise.resolve();
      calls.push('second');
    });
    source.emit('SIGINT', 'SIGINT');
    expect(interrupts.status).toBe(130);
    await interrupts.close();
    expect(calls).toEqual(['second', 'first']);
    expect(notes).toHaveLength(1);
    expect(killed).toEqual([]);
  });

  it('kills on the second signal, with nobody listening any more', () => {
    const { source, killed, interrupts } = setUp();
    interrupts.add(() => undefined);
    source.emit('SIGTERM', 'SIGTERM');
    source.emit('SIGINT', 'SIGINT');
    expect(interrupts.status).toBe(143);
    expect(killed).toEqual(['SIGINT']);
    expect(source.listenerCount('SIGINT') + source.listenerCount('SIGTERM')).toBe(0);
  });

  it('lets a callback hear of the second signal, and kills on the third', async () => {
    const { source, notes, killed, interrupts } = setUp();
    const heard: number[] = [];
    interrupts.add((times) => void heard.push(times), { hearsSecond: true, note: 'stopping in order' });
    for (const signal of ['SIGHUP', 'SIGTERM']) source.emit(signal, signal);
    await interrupts.close();
    expect([heard, killed, notes]).toEqual([[1, 2], [], ['stopping in order']]);
  });

  it('kills on the third signal even a command that heard of the second', () => {
    const { source, killed, interrupts } = setUp();
    interrupts.add(() => undefined, { hearsSecond: true });
    for (const signal of ['SIGHUP', 'SIGTERM', 'SIGTERM']) source.emit(signal, signal);
    expect(killed).toEqual(['SIGTERM']);
  });

  it('gives no status of its own to a command that ended in order', () => {
    const { source, interrupts } = setUp();
    interrupts.add(() => undefined);
    source.emit('SIGQUIT', 'SIGQUIT');
    expect(interrupts.status).toBe(131);
    interrupts.endedInOrder = true;
    expect([interrupts.status, interrupts.isInterrupted]).toEqual([undefined, true]);
  });

  it('does not lose what a callback throws', async () => {
    const { source, interrupts } = setUp();
    interrupts.add(() => {
      throw new Error('could not stop');
    });
    source.emit('SIGINT', 'SIGINT');
    await expect(interrupts.close()).rejects.toThrow('could not stop');
  });
});

it('progress tells the rate and the time left once they mean something', () => {
  const options = { label: 'checking', total: 200, unit: 'count', noun: 'segments' } as const;
  expect(progressText(options, 10, 1e8)).toBe('checking  10 of 200  5.0%');
  expect(progressText(options, 50, 5e9)).toBe('checking  50 of 200  25.0%  10 segments/s  15.0 s left');
  expect(progressText({ label: 'reading', unit: 'bytes' }, 2 ** 21, 1e9, 'pgbench')).toBe(
    'reading  2 MiB  2 MiB/s  pgbench',
  );
  expect(progressText({ label: 'measuring', unit: 'share' }, 0.25, 1e9)).toBe('measuring  25.0%  3.00 s left');
});

it('progress beyond an estimated total ends at 100%', () => {
  const options = { label: 'checking', unit: 'bytes', total: 2 ** 20 } as const;
  expect(progressText(options, 2 ** 21, 1e9)).toBe('checking  2 MiB of 1 MiB  100.0%  2 MiB/s');
});

it('colour is for terminals, and NO_COLOR turns it off', () => {
  expect(wantsColour(true, {})).toBe(true);
  expect(wantsColour(false, {})).toBe(false);
  expect(wantsColour(true, { NO_COLOR: '1' })).toBe(false);
  expect(wantsColour(true, { NO_COLOR: '' })).toBe(true);
  expect(wantsColour(true, { TERM: 'dumb' })).toBe(false);
  expect(makeStyle(true).red('x')).toBe('\x1b[31mx\x1b[39m');
  expect(makeStyle(false).red('x')).toBe('x');
});

it('PCACHE_NATIVE is on, off or unset', () => {
  expect(readNativeSwitch({})).toBe(true);
  expect(readNativeSwitch({ PCACHE_NATIVE: 'on' })).toBe(true);
  expect(readNativeSwitch({ PCACHE_NATIVE: 'off' })).toBe(false);
  expect(() => readNativeSwitch({ PCACHE_NATIVE: 'OFF' })).toThrow("PCACHE_NATIVE is 'OFF'");
});

it('nearestName guesses only what is near', () => {
  const names = ['format', 'fsck', 'dump-keys', 'cat'];
  expect(nearestName('fromat', names)).toBe('format');
  expect(nearestName('dump', names)).toBe('dump-keys');
  expect(nearestName('sck', names)).toBe('fsck');
  expect(nearestName('benchmark', names)).toBeUndefined();
});
