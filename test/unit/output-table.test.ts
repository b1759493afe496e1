/** Tables and streamed rows. */
import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { PcacheError } from '../../src/engine/errors.js';
import { renderFields, renderTable, RowWriter, type Column, type RowFormat } from '../../src/output/table.js';
import { OutputClosedError, StreamOutput, type Output } from '../../src/output/terminal.js';

interface Sample {
  readonly id: number;
  readonly name: string | null;
}

const COLUMNS: Column<Sample>[] = [
  { key: 'id', title: 'ID', width: 5, align: 'right', value: (row) => row.id },
  { key: 'name', title: 'NAME', width: 8, value: (row) => row.name },
  { key: 'even', value: (row) => row.id % 2 === 0, show: (row) => (row.id % 2 === 0 ? 'yes' : 'no') },
];

/** Keeps what is written, and asks for a pause after every `pauseEvery` pieces. */
class MemoryOutput implements Output {
  readonly isTerminal = false;
  readonly pieces: string[] = [];
  pauses = 0;
  constructor(private readonly pauseEvery = Infinity) {}
  write(text: string): boolean {
    this.pieces.push(text);
    return this.pieces.length % this.pauseEvery !== 0;
  }
  drained(): Promise<void> {
    this.pauses++;
    return Promise.resolve();
  }
}

async function written(format: RowFormat, rows: Sample[]): Promise<string> {
  const output = new MemoryOutput();
  const writer = new RowWriter(output, COLUMNS, format);
  for (const row of rows) writer.write(row);
  await writer.end();
  return output.pieces.join('');
}

describe('RowWriter', () => {
  const rows = [
    { id: 7, name: 'plain' },
    { id: 12, name: 'longer than its column' },
    { id: 3, name: null },
  ];

  it('aligns a table by the widths that its columns give', async () => {
    expect(await written('table', rows)).toBe(
      [
        '   ID  NAME      even',
        '    7  plain     no',
        '   12  longer than its column  yes',
        '    3  -         no',
        '',
      ].join('\n'),
    );
  });

  it('quotes CSV where it must', async () => {
    expect(await written('csv', [...rows, { id: 1, name: 'a,"b"\nc' }])).toBe(
      'id,name,even\n7,plain,false\n12,longer than its column,true\n3,,false\n1,"a,""b""\nc",false\n',
    );
  });

  it('writes one JSON object a line, and no heading', async () => {
    const lines = (await written('ndjson', rows)).trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      { id: 7, name: 'plain', even: false },
      { id: 12, name: 'longer than its column', even: true },
      { id: 3, name: null, even: false },
    ]);
  });

  it('writes the heading when there are no rows', async () => {
    expect(await written('table', [])).toBe('   ID  NAME      even\n');
    expect(await written('csv', [])).toBe('id,name,even\n');
    expect(await written('ndjson', [])).toBe('');
  });

  it('holds no more than a piece, and says when to wait', async () => {
    const output = new MemoryOutput(1);
    const writer = new RowWriter(output, COLUMNS, 'csv');
    const row = { id: 1, name: 'x'.repeat(1000) };
    let waits = 0;
    for (let i = 0; i < 1000; i++) {
      if (!writer.write(row)) {
        waits++;
        await writer.drained();
      }
    }
    await writer.end();
    expect(waits).toBeGreaterThan(10);
    expect(output.pauses).toBe(waits + 1);
    expect(Math.max(...output.pieces.map((piece) => piece.length))).toBeLessThan(70_000);
  });

  it('refuses an unknown format', () => {
    expect(() => new RowWriter(new MemoryOutput(), COLUMNS, 'xml' as RowFormat)).toThrow(PcacheError);
  });
});

describe('StreamOutput', () => {
  it('waits for a slow reader', async () => {
    const stream = new PassThrough({ highWaterMark: 10 });
    const output = new StreamOutput(stream).listen();
    expect(output.write('more than ten characters')).toBe(false);
    let drained = false;
    const waiting = output.drained().then(() => (drained = true));
    await new Promise((resolve) => setImmediate(resolve));
    expect(drained).toBe(false);
    stream.resume();
    await waiting;
    expect(drained).toBe(true);
  });

  it('does not wait for a drain that will not come', async () => {
    const output = new StreamOutput(new PassThrough()).listen();
    output.write('x');
    await output.drained();
  });

  it('ends quietly once the reader is gone', async () => {
    const stream = new PassThrough();
    const output = new StreamOutput(stream).listen();
    output.write('x');
    stream.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
    await new Promise((resolve) => setImmediate(resolve));
    expect(() => output.write('y')).toThrow(OutputClosedError);
    await expect(output.drained()).rejects.toThrow(OutputClosedError);
    await expect(output.flushed()).resolves.toBeUndefined();
  });

  const failing = async () => {
    const stream = new PassThrough();
    const output = new StreamOutput(stream).listen();
    stream.destroy(Object.assign(new Error('no space'), { code: 'ENOSPC' }));
    await new Promise((resolve) => setImmediate(resolve));
    return output;
  };

  it('passes on any other failure to whoever writes, and then not again at the end', async () => {
    const output = await failing();
    expect(() => output.write('y')).toThrow('standard output: no space; the result is incomplete');
    expect(() => output.write('z')).toThrow('no space');
    await expect(output.flushed()).resolves.toBeUndefined();
  });

  it('passes it on at the end when nobody has written since', async () => {
    const output = await failing();
    await expect(output.flushed()).rejects.toThrow('standard output: no space; the result is incomplete');
  });

  it('passes on what a stream throws at once', () => {
    const stream = new PassThrough();
    stream.write = () => {
      throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
    };
    const output = new StreamOutput(stream).listen();
    expect(() => output.write('y')).toThrow('standard output: no space; the result is incomplete');
  });
});

describe('whole tables', () => {
  it('are as wide as they need and have no trailing blanks', () => {
    const text = renderTable(
      ['name', 'count'],
      [
        ['a', 1],
        ['longer', 12345],
      ],
      ['left', 'right'],
    );
    expect(text).toBe('name    count\na           1\nlonger  12345\n');
  });
  it('fields put a colon after the name', () => {
    expect(
      renderFields([
        ['segments', 31],
        ['gc', '70'],
      ]),
    ).toBe('segments:  31\ngc:        70\n');
  });
});
