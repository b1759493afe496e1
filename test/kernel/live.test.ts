/**
 * `status`, `tune`, `drain` and `detach` for a cache that the kernel's target has attached, while fio writes to it over a
 * slow backing device. Afterwards nothing is dirty in the cache, and fsck finds nothing.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { MIB } from '../../src/engine/media/geometry.js';
import type { KernelStatus } from '../../src/kernel/kernel-status.js';
import { runCli } from '../support/cli.js';
import { schemaErrors } from '../support/documents.js';
import {
  describeWithKernel,
  KERNEL_TEST_TIMEOUT_MS,
  makeImageFolder,
  printed,
  runGuest,
  type GuestResult,
  type TestKernel,
} from '../support/kernel.js';
import { diskWithPrograms, pcacheFunctions } from './guest-pcache.js';
import { programFiles } from './guest-programs.js';

/** Otherwise one kernel runs one command: each start of Node takes half a minute in the guest. */
const ALL = process.env['PCACHE_KERNEL_LIVE'] === 'all';
const BACKING_BYTES = 64 * MIB;
/** Of each write to the backing device. */
const DELAY_MS = 200;

const folder = makeImageFolder();
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What pcache starts again and again, in the guest's memory. */
const programs = (): string[] => [...programFiles().filter((file) => !file.includes('perl')), '/usr/bin/env'];

/** `run NAME ARGUMENTS`: runs pcache, keeps what it says and prints its exit status. `before` runs before the detach. */
const scriptWith = (before: string): string => `
  ${pcacheFunctions(BACKING_BYTES)}
  cp -L ${programs().join(' ')} /run/p
  export PATH="/run/p:$PATH"
  dmsetup() { LD_LIBRARY_PATH=/run/p command dmsetup "$@"; }
  run() {
    local name=$1 status=0; shift
    pcache "$@" >/tmp/x/$name 2>/tmp/x/$name.log || status=$?
    echo "$name: $status"
  }
  BACKING=/dev/mapper/backing0 sectors=$(blockdev --getsz /dev/mapper/backing0)
  # Pages of the cache device that the page cache has read before the attach stay as they are.
  dd if=/dev/pmem0 of=/dev/null bs=1M count=40 status=none
  exec 5</dev/pmem0
  attach false ${DELAY_MS} >/dev/null

  ${before}
  dd if=/dev/urandom of=/dev/mapper/pc bs=64k count=16 oflag=direct status=none
  run detached detach /dev/mapper/pc --drain --json
  echo "left: $(dmsetup ls --target pcache 2>/dev/null | grep -v 'No devices')"`;

/** All commands but `detach --drain`, while fio writes; `extra` runs one more. */
const whileWritten = (extra: string): string => `
  fio --name=w --filename=/dev/mapper/pc --rw=randwrite --bs=16k --direct=1 --ioengine=psync --rate=256k --size=32m \\
    --time_based --runtime=300 --eta=never --output=/tmp/x/fio & fio=$!
  $PROGRAM status pc --watch --json >/tmp/x/watch 2>/tmp/x/watch.log & watch=$!
  for n in $(seq 600); do [ "$(wc -l </tmp/x/watch)" -lt 2 ] || break; sleep 0.1; done
  ${extra}
  echo "before: $(dmsetup status pc)"
  run drained drain pc --json
  echo "after: $(dmsetup status pc)"
  kill -INT $watch; wait $watch || echo "watch: $?"
  kill $fio; wait $fio || true`;

/** A start of Node takes half a minute in the guest: each kernel gets one of the two. */
const REFUSED = 'run held detach pc';
const TUNED = 'run tuned tune pc gc_percent=33';

const positionOf = (line: string, field: number): number[] => line.split(' ').at(field)!.split(':').map(Number);

async function live(kernel: TestKernel, before: string): Promise<GuestResult & { cache: string }> {
  const [cache, backing] = [join(folder, 'cache'), join(folder, 'disk')];
  rmSync(cache, { force: true });
  expect(await runCli(['format', cache, '--size', '512MiB'])).toMatchObject({ status: 0 });
  diskWithPrograms(backing, BACKING_BYTES);
  const guest = await runGuest({ kernel, cache, backing, script: scriptWith(before), seconds: 900 });
  return { ...guest, cache };
}

const saidIn = (guest: GuestResult, name: string): string => guest.files.get(name)!.toString();

async function expectDetached(guest: GuestResult, cache: string): Promise<void> {
  expect(printed(guest, 'detached'), saidIn(guest, 'detached.log')).toEqual(['0']);
  expect(JSON.parse(saidIn(guest, 'detached'))).toEqual({ schemaVersion: 1, detached: true });
  expect(printed(guest, 'left')).toEqual(['']);
  const check = await runCli(['fsck', cache]);
  expect([check.status, check.stdout]).toEqual([0, expect.stringContaining(': clean, ')]);
  const info = await runCli(['info', cache, '--json']);
  const [keyHead, dirtyTail] = (JSON.parse(info.stdout) as { status: string }).status.split(' ').slice(6);
  expect(keyHead).not.toBe('0:0');
  expect(dirtyTail).toBe(keyHead);
}

describeWithKernel('a cache that the kernel has attached', (kernel) => {
  const tunes = kernel.version.startsWith('7.3');
  const title = 'is watched, tuned, drained and detached while fio writes, and nothing is dirty in it then';
  if (!ALL) {
    it.skip(`${title} (skipped: needs PCACHE_KERNEL_LIVE=all)`, () => undefined);
    if (!tunes) return;
    it('is drained and detached, and nothing is dirty in it then', { timeout: KERNEL_TEST_TIMEOUT_MS }, async () => {
      const guest = await live(kernel, '');
      await expectDetached(guest, guest.cache);
    });
    return;
  }
  it(title, { timeout: KERNEL_TEST_TIMEOUT_MS }, async () => {
    const guest = await live(kernel, whileWritten(tunes ? TUNED : REFUSED));
    const said = (name: string): string => saidIn(guest, name);
    if (process.env['PCACHE_KERNEL_SHOW'])
      for (const name of guest.files.keys()) console.log(name, said(name).slice(0, 4000));

    const samples = said('watch').trim().split('\n');
    expect(samples.flatMap((line) => schemaErrors('status NAME', line))).toEqual([]);
    const watched = samples.map((line) => JSON.parse(line) as KernelStatus);
    expect(watched.length).toBeGreaterThan(2);
    expect(watched[0]).toMatchObject({ name: 'pc', path: '/dev/pmem0', backing: '/dev/mapper/slow', gcPercent: 70 });
    for (const one of watched) {
      expect(one.dirtyIsLowerBound, JSON.stringify(one)).toBe(false);
      expect(one.dirtyBytes).toBeLessThanOrEqual(BACKING_BYTES);
      expect(one.dirtyBytes % 512).toBe(0);
      expect(one.writebackStandsStill).toBe(false);
    }
    expect(watched.some(({ dirtyBytes }) => dirtyBytes > 0)).toBe(true);
    expect(watched.some(({ writtenBackBytes }) => (writtenBackBytes ?? 0) > 0)).toBe(true);
    expect(watched.at(-1)!.requests!.writeBytes).toBeGreaterThan(watched[0].requests!.writeBytes);
    expect(watched.at(-1)!.backingRequests!.writeBytes).toBeGreaterThan(watched[0].backingRequests!.writeBytes);
    expect(printed(guest, 'watch')).toEqual(['130']);

    if (tunes) {
      expect(printed(guest, 'tuned')).toEqual(['0']);
      expect(said('tuned')).toBe('gc_percent: 33\n');
    } else {
      expect(printed(guest, 'held')).toEqual(['8']);
      expect(said('held.log')).toMatch(/^pcache: \/dev\/mapper\/pc: open in pid \d+ \(fio\); end that use first/);
    }

    expect(printed(guest, 'drained'), said('drained.log')).toEqual(['0']);
    expect(schemaErrors('drain', said('drained'))).toEqual([]);
    const [before] = printed(guest, 'before');
    const [after] = printed(guest, 'after');
    expect(after.split(' ')[7]).toBe(tunes ? '33' : '70');
    const [headBefore, tailAfter] = [positionOf(before, -3), positionOf(after, -2)];
    expect(tailAfter[0] * 16 * MIB + tailAfter[1]).toBeGreaterThanOrEqual(headBefore[0] * 16 * MIB + headBefore[1]);

    await expectDetached(guest, guest.cache);
  });
});
