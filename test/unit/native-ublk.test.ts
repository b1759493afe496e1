/** The queue of a ublk device over a file that is none: io_uring, the event loop and the end are real, the driver is not. */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { UblkQueue } from '../../src/block-device/ublk-queue.js';
import { nativeAddon, type NativeError } from '../../src/engine/device/native.js';

const EOPNOTSUPP = 95;
const ENOENT = 2;
const DEPTH = 128;
const IO_BYTES = 4096;
const folder = mkdtempSync(join(tmpdir(), 'pcache-native-ublk-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const PLACE = { path: '/dev/ublkb0', fd: 0, number: 0, depth: DEPTH, maxIoBytes: IO_BYTES, isEncoded: true };

/** A queue that is served over a plain file. */
function serve(ended: (errno: number) => void): { queue: UblkQueue; fd: number } {
  const path = join(folder, 'file');
  writeFileSync(path, Buffer.alloc(8192));
  const fd = openSync(path, 'r+');
  const queue = new UblkQueue({ ...PLACE, fd });
  const server = { memory: new Uint8Array(DEPTH * IO_BYTES), take: () => expect.unreachable('there are no requests') };
  queue.serve(server, ended);
  return { queue, fd };
}

/** Why this process may not use io_uring, if it may not: some containers forbid it. */
function whyNot(): string | undefined {
  try {
    const { queue, fd } = serve(() => {});
    void queue.close();
    closeSync(fd);
    return undefined;
  } catch (error) {
    return (error as NativeError).message;
  }
}

const reason = whyNot();
const title = 'a queue whose commands are all refused ends with the reason, and can be closed from that callback';
it.skipIf(reason !== undefined)(reason === undefined ? title : `${title} (skipped: ${reason})`, async () => {
  const errno = await new Promise((resolve) => {
    const { queue, fd } = serve((number) => {
      void queue.close();
      closeSync(fd);
      queue.complete(0, 0);
      queue.flush(); // after its end nothing takes the answer
      resolve(number);
    });
  });
  expect(errno).toBe(EOPNOTSUPP);
});

it('a queue without memory for every tag is refused', () => {
  const queue = new UblkQueue(PLACE);
  const server = { memory: new Uint8Array(DEPTH * IO_BYTES - 1), take: () => {} };
  expect(() => queue.serve(server, () => {})).toThrow('no room for every tag');
});

it('a control command without the driver ends with the error of opening it', async () => {
  const answer = await new Promise<{ result: number; bytes: number }>((resolve) =>
    nativeAddon().ublkControl(0x80207513, 0, 0xffff, 0, new Uint8Array(8), (result, buffer) =>
      resolve({ result, bytes: buffer.length }),
    ),
  );
  // A machine with the driver answers, or refuses who is not root.
  expect([-ENOENT, 0, -13]).toContain(answer.result);
  expect(answer.bytes).toBe(8);
});
