/** Each trace of a bug report through `trace info`, `trace convert` and `replay --simulate`, as its sender would run them. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { openTrace, TraceOp, type TraceInfo, type TraceTally } from '../../src/trace/index.js';
import { runCli } from '../support/cli.js';
import { describeLong } from '../support/long.js';
import { CASES, reportedCases, TRACE_CASES, type TraceCase } from '../support/trace-cases.js';

// Every case starts the program three times.
vi.setConfig({ testTimeout: 60_000 });

/** How the kinds that are left out are named on standard error. */
const LEFT_OUT: Readonly<Record<string, string>> = {
  skippedZeroLength: '1 request without length',
  withoutOperation: '1 record without an operation',
  zoneManagement: '1 command to a zone',
};
/** What is not a request, by the caller's choice or because it is a note. */
const EXPECTED = ['selected', 'notify', 'otherActions', 'otherDevices'] as const;

function name({ file, action }: TraceCase): string {
  return action === undefined ? file : `${file} with --action ${action}`;
}

function countsOf({ requests: [reads, writes, flushes, discards], leftOut = {} }: TraceCase): Record<string, number> {
  const kinds = Object.keys(LEFT_OUT).map((kind): [string, number] => [kind, leftOut[kind] ?? 0]);
  return { reads, writes, flushes, discards, malformed: 0, truncated: 0, ...Object.fromEntries(kinds) };
}

function told({ leftOut = {} }: TraceCase): string[] {
  return Object.keys(leftOut).map((kind) => `left out: ${LEFT_OUT[kind]}`);
}

describe.each([['in fixtures', CASES] as const, ['as reported', reportedCases()] as const])('%s', (_, folder) => {
  if (folder === undefined) {
    it.skip('each trace has its right values (skipped: PCACHE_SHARED holds no cases)', () => undefined);
    return;
  }

  it('every file is in the table', () => {
    expect([...new Set(TRACE_CASES.map(({ file }) => file))].sort()).toEqual(readdirSync(folder).sort());
  });

  it.each(TRACE_CASES.map((one) => [name(one), one] as const))('%s has its right values', async (_name, one) => {
    const reader = await openTrace(join(folder, one.file), { action: one.action ?? 'queue', allDevices: true });
    expect(reader.format).toBe(one.format);
    let bytes = 0;
    let lastNs = 0;
    const read = async (): Promise<TraceTally> => {
      for await (const batch of reader.batches()) {
        for (let i = 0; i < batch.count; i++) if (batch.op[i] <= TraceOp.write) bytes += batch.lengthBytes[i];
        lastNs = batch.timeNs[batch.count - 1];
      }
      return reader.counts;
    };
    if (one.error !== undefined) {
      await expect(read()).rejects.toMatchObject({ code: 'BAD_TRACE', message: `${reader.name}: ${one.error}` });
      return;
    }
    const counts = await read();
    expect({ ...counts, bytes, lastNs }).toMatchObject({ ...countsOf(one), bytes, lastNs: one.durationNs });
    expect(bytes).toBe(one.bytes);
    const expected = EXPECTED.reduce((sum, kind) => sum + counts[kind], 0);
    const leftOut = Object.values(one.leftOut ?? {}).reduce((sum, count) => sum + count, 0);
    expect(counts.records - expected).toBe(leftOut);
    expect(reader.warnings.filter((line) => line.includes('left out'))).toEqual(
      told(one).map((line) => `${reader.name}: ${line}`),
    );
  });
});

describeLong('from a shell', () => {
  it.each(TRACE_CASES.map((one) => [name(one), one] as const))('%s gives counts or one line', async (_name, one) => {
    const path = join(CASES, one.file);
    const flags = one.action === undefined ? [] : ['--action', one.action];
    const [reads, writes, flushes, discards] = one.requests;
    const requests = reads + writes + flushes + discards;
    const late = one.file.startsWith('long-window') ? 1 : 0;

    const info = await runCli(['trace', 'info', path, '--json', ...flags]);
    const converted = await runCli(['trace', 'convert', path, '-', '--to', 'csv', ...flags]);
    const replayed = await runCli(['replay', path, '--simulate', '--json', ...flags]);
    if (one.error !== undefined) {
      for (const { status, stdout, stderr } of [info, converted, replayed]) {
        expect({ status, stderr }).toEqual({ status: 8, stderr: `pcache: ${path}: ${one.error}\n` });
        expect(stdout).toMatch(/^$|^\{/); // the error as JSON, and no trace
      }
      return;
    }
    expect(info.status).toBe(0);
    expect(JSON.parse(info.stdout) as TraceInfo).toMatchObject({ requests, counts: countsOf(one) });
    expect(info.stderr.split('\n')).toHaveLength(1 + told(one).length + late);
    for (const line of told(one)) expect(info.stderr).toContain(`pcache: ${path}: ${line}\n`);
    expect(converted.status).toBe(0);
    expect(converted.stdout.split('\n')).toHaveLength(requests + 2);
    if (one.replayError !== undefined) {
      expect(replayed).toMatchObject({ status: 8, stderr: `pcache: ${path}: ${one.replayError}\n` });
      return;
    }
    expect(replayed.status).toBe(0);
    expect(JSON.parse(replayed.stdout)).toMatchObject({
      trace: { counts: countsOf(one) },
      requests: { total: requests - discards },
    });
  });
});
