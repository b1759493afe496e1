/**
 * `attach --device` in a virtual machine: the kernel's NBD client on a cache over the machine's pmem, with a filesystem
 * and programs on it; afterwards the kernel's own target reads the same cache.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import type { AttachResult } from '../../src/nbd/attach.js';
import { sparseFile } from '../nbd/attached.js';
import { runCli } from '../support/cli.js';
import { describeWithKernel, KERNEL_TEST_TIMEOUT_MS, makeImageFolder, printed, runGuest } from '../support/kernel.js';

const MIB = 1024 * 1024;
const folder = makeImageFolder();
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The command line as the guest starts it, which has this machine's files at $HOST. */
const PCACHE = `$HOST${process.execPath} $HOST${fileURLToPath(new URL('../../bundle/pcache.cjs', import.meta.url))}`;

/** Bash functions: `serve` starts an attach and waits for its device; `gone` waits until nbd0 has no size. */
const FUNCTIONS = `
  serve() {
    ${PCACHE} attach /dev/pmem0 /dev/vda --device /dev/nbd0 --json >/tmp/x/result 2>/tmp/x/log & pid=$!
    for n in $(seq 2400); do
      grep -q serving /tmp/x/log && return
      kill -0 $pid || { cat /tmp/x/log; return 1; }
      sleep 0.1
    done
    return 1
  }
  gone() {
    for n in $(seq 100); do [ "$(cat /sys/block/nbd0/size)" = 0 ] && { echo "gone: yes"; return; }; sleep 0.1; done
    echo "gone: no"
  }
  hashes() { (cd "$1" && find . -type f -exec sha256sum {} + | sort -k2); }
  mkdir -p /tmp/m`;

/** Starts of Node in the guest take most of the time: each kernel gets one of the two endings. */
const isKilledIn = (version: string): boolean => version.startsWith('7.2');

describeWithKernel('a cache as /dev/nbd0', (kernel) => {
  const isKilled = isKilledIn(kernel.version);
  const title = isKilled
    ? 'loses nothing that was synced when the server is killed, and no device stays'
    : 'carries a filesystem, stays while that is mounted, and is gone afterwards';
  it(title, { timeout: KERNEL_TEST_TIMEOUT_MS }, async () => {
    const cache = join(folder, 'cache.img');
    rmSync(cache, { force: true });
    expect(await runCli(['format', cache, '--size', '512MiB'])).toMatchObject({ status: 0 });
    const killed = `
      kill -9 $pid
      umount /tmp/m || true
      gone`;
    const ended = `
      kill $pid
      for n in $(seq 600); do grep -q mounted /tmp/x/log && break; sleep 0.1; done
      hashes /tmp/m >/tmp/x/waiting
      umount /tmp/m
      wait $pid; echo "status: $?"
      gone`;
    const result = await runGuest({
      kernel,
      cache,
      backing: sparseFile(join(folder, 'backing.img'), 64 * MIB),
      script: `
        ${FUNCTIONS}
        serve
        queue=/sys/block/nbd0/queue
        echo "device: $(cd $queue && echo $(cat ../size ../ro logical_block_size write_cache fua))"
        mkfs.ext4 -q /dev/nbd0
        mount /dev/nbd0 /tmp/m
        cp -r "$HOST/usr/share/common-licenses" /tmp/m/
        dd if=/dev/urandom of=/tmp/m/random bs=64k count=64 conv=fsync status=none
        sync
        hashes /tmp/m >/tmp/x/before
        ${isKilled ? killed : ended}

        attach false >/dev/null
        e2fsck -p /dev/mapper/pc >/dev/null; echo "e2fsck: $?"
        mount -o ro /dev/mapper/pc /tmp/m
        hashes /tmp/m >/tmp/x/after
        umount /tmp/m
        detach`,
      seconds: 600,
    });
    expect(printed(result, 'device')).toEqual([`${(64 * MIB) / 512} 0 512 write back 1`]);
    const before = result.files.get('before')!.toString();
    expect(before.split('\n').length).toBeGreaterThan(10);
    expect(printed(result, 'gone')).toEqual(['yes']);
    expect(printed(result, 'e2fsck')).toEqual(['0']);
    expect(result.files.get('after')!.toString()).toBe(before);
    if (isKilled) return;
    expect(printed(result, 'status')).toContain('0');
    expect(result.files.get('waiting')!.toString()).toBe(before);
    expect(result.files.get('log')!.toString()).toContain(
      '/dev/nbd0: mounted on /tmp/m; the cache stays attached until that use ends',
    );
    const attached = JSON.parse(result.files.get('result')!.toString()) as AttachResult;
    expect(attached).toMatchObject({ device: '/dev/nbd0', failedRequests: 0, connections: 4 });
  });
});
