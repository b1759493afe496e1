/** Recordings in pieces and in several files: everything is read, in the order of time, and what is missing is said. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, expect, it, vi } from 'vitest';
import { findTraceFiles, openTrace } from '../../src/trace/index.js';
import { readTrace, record, recording, temporaryDirectory } from './trace-support.js';

vi.setConfig({ testTimeout: 120_000 });

const directory = temporaryDirectory();

describe('a recording of sixteen CPUs through a pipe', () => {
  const CPUS = 16;
  const PIECES = 4;
  const PIECE_RECORDS = 1500;

  it('is put in the order of time, though each piece is of one CPU, and the width of the window is told', async () => {
    const pieces: Buffer[] = [];
    for (let piece = 0; piece < PIECES; piece++) {
      for (let cpu = 0; cpu < CPUS; cpu++) {
        for (let n = 0; n < PIECE_RECORDS; n++) {
          const at = (piece * PIECE_RECORDS + n) * CPUS + cpu;
          pieces.push(record({ cpu, sequence: at + 1, timeNs: BigInt(at) * 1000n, sector: BigInt(at) * 8n }));
        }
      }
    }
    const reader = await openTrace('-', { action: 'queue', stdin: Readable.from([Buffer.concat(pieces)]) });
    let expected = 0;
    for await (const batch of reader.batches()) {
      for (let i = 0; i < batch.count; i++) {
        expect([batch.timeNs[i], batch.offsetBytes[i]]).toEqual([expected * 1000, expected * 4096]);
        expected++;
      }
    }
    expect(expected).toBe(CPUS * PIECES * PIECE_RECORDS);
    expect(reader.counts.outOfOrder).toBe(0);
    expect(reader.warnings).toHaveLength(1);
    expect(reader.warnings[0]).toMatch(
      /pieces of 16 CPUs overlap by up to 0\.0\d+ s; up to 96000 requests were held back/,
    );
  });
});

describe('the files of a recording', () => {
  const make = (name: string, cpus: readonly number[]): string => {
    const folder = join(directory, name);
    mkdirSync(folder);
    for (const cpu of cpus) writeFileSync(join(folder, `disk.blktrace.${cpu}`), recording({}, {}));
    return folder;
  };

  it('are all read when one of them is given, and that is said', async () => {
    const path = join(make('all', [0, 1, 2]), 'disk.blktrace.0');
    const { counts, warnings } = await readTrace(path);
    expect(counts).toMatchObject({ selected: 6, missingFiles: 0 });
    expect(warnings).toEqual([`${path}: read with the 2 other files of its recording`]);
  });

  it('are missed when those of higher CPUs are there', async () => {
    const path = join(make('holes', [0, 2, 5]), 'disk');
    const { counts, warnings } = await readTrace(path);
    expect(counts).toMatchObject({ selected: 6, missingFiles: 3 });
    expect(warnings).toEqual([
      `${path}: 3 files of the recording are missing, of CPU 1, 3, 4; requests of these CPUs are not counted`,
    ]);
  });

  it('that is alone is read alone', async () => {
    const path = join(make('alone', [0]), 'disk.blktrace.0');
    expect(await findTraceFiles(path)).toEqual({ paths: [path], warnings: [], missing: 0 });
  });
});

describe('a trace of which nothing can be read', () => {
  it('is an error that names the first record and why', async () => {
    const path = join(directory, 'nothing.csv');
    writeFileSync(path, 'op,offset_bytes,length_bytes\nread,x,1\nread,y,2\n');
    await expect(readTrace(path)).rejects.toMatchObject({
      code: 'BAD_TRACE',
      message:
        `${path}: none of its 2 records can be read, at line 2 for instance: column 2 (offset_bytes): ` +
        "'x' is not a number; if it is another format say so with --format or --columns",
    });
  });
});
