/** What a device that fails under its mapping looks like, and what is no device at all. */
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBacking } from '../../src/engine/device/backing-file.js';
import { MappedReader } from '../../src/engine/device/mapped.js';
import type { NativeAddon, NativeError } from '../../src/engine/device/native.js';
import { openPmemReader } from '../../src/engine/device/open.js';
import type { PcacheError } from '../../src/engine/errors.js';

const EIO = 5;
const directory = mkdtempSync(join(tmpdir(), 'pcache-faults-'));
const path = join(directory, 'cache.pmem');
beforeAll(() => writeFileSync(path, new Uint8Array(4096)));
afterAll(() => rmSync(directory, { recursive: true }));

/** Reads through a mapping whose addon throws that. */
function readFaulting(thrown: Partial<NativeError>, at = path, sizeBytes = 4096): PcacheError {
  const error = Object.assign(new Error('the addon says so'), thrown);
  const addon = {
    map: () => ({ handle: 1, durability: 'page-cache' }),
    unmap: () => undefined,
    read: () => {
      throw error;
    },
    crcRange: () => {
      throw error;
    },
  } as unknown as NativeAddon;
  const reader = new MappedReader(addon, { path: at, fd: openSync(at, 'r'), sizeBytes });
  try {
    expect(() => reader.crc32c(0, 512, 0)).toThrow();
    reader.read(0, new Uint8Array(512), 0, 512);
  } catch (caught) {
    return caught as PcacheError;
  } finally {
    reader.close();
  }
  return expect.fail('nothing was thrown');
}

describe('a read through a mapping', () => {
  it.each([
    ['of memory that is worn out', { code: 'FAULT_MEMORY', offsetBytes: 64 }, 'IO', 'uncorrectable memory error while'],
    ['that the medium refuses', { code: 'FAULT', offsetBytes: 64 }, 'IO', 'I/O error while reading at byte 64'],
    ['that a call of the system refuses', { code: 'ERRNO', errno: EIO }, 'IO', 'EIO while reading'],
    ['beyond its end', { code: 'OUT_OF_RANGE' }, 'OUT_OF_RANGE', 'beyond its 4096 bytes'],
    ['after it was closed', { code: 'CLOSED' }, 'CLOSED', 'used after it was closed'],
  ] as const)('%s names the device and the reason', (_what, thrown, code, text) => {
    const error = readFaulting(thrown);
    expect(error.code).toBe(code);
    expect(error.message.startsWith(`${path}: `)).toBe(true);
    expect(error.message).toContain(text);
  });

  it('of a file that was truncated meanwhile fails with TRUNCATED', () => {
    const error = readFaulting({ code: 'FAULT', offsetBytes: 8000 }, path, 8192);
    expect(error).toMatchObject({ code: 'TRUNCATED' });
    expect(error.message).toContain('shrank from 8192 to 4096 bytes');
  });

  it('on a full filesystem fails with NO_SPACE', () => {
    // /proc has none, ever.
    expect(readFaulting({ code: 'FAULT', offsetBytes: 0 }, '/proc/version', 0)).toMatchObject({ code: 'NO_SPACE' });
  });

  it('of something that is not a file fails with IO', () => {
    expect(readFaulting({ code: 'FAULT', offsetBytes: 0 }, '/dev/zero')).toMatchObject({ code: 'IO' });
  });

  it('does not hide a bug of ours', () => {
    expect(readFaulting({ code: 'INVALID' }).message).toBe('the addon says so');
  });
});

it('a socket and a character device are refused as cache devices', async () => {
  const socket = join(directory, 'socket');
  const server = createServer().listen(socket);
  await new Promise((resolve) => server.once('listening', resolve));
  try {
    expect(() => openPmemReader(socket)).toThrow('is a socket');
    expect(() => openPmemReader('/dev/null')).toThrow('a character device that is not DAX');
  } finally {
    server.close();
  }
});

it('an ephemeral backing device answers a flush without flushing, later in the event loop', async () => {
  const backing = openBacking(path, { readOnly: false, ephemeral: true });
  let isOver = false;
  const flushed = new Promise((resolve) =>
    backing.flush((error) => {
      isOver = true;
      resolve(error);
    }),
  );
  expect(isOver).toBe(false);
  expect(await flushed).toBeNull();
  backing.close();
});
