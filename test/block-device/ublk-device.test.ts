/**
 * `attach --device` through ublk in a virtual machine: a filesystem on a cache over the machine's pmem, whose server is
 * killed while a program writes, and is taken over by another; afterwards the kernel's own target reads the same cache.
 */
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
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

/** Puts Node.js into the guest's memory: each start over 9p would read it again. */
const COPY_NODE = `dd if=$HOST${process.execPath} of=/tmp/node bs=1M status=none; chmod +x /tmp/node`;
/** The command line as the guest starts it, which has this machine's files at $HOST. */
const PCACHE = `/tmp/node $HOST${fileURLToPath(new URL('../../bundle/pcache.cjs', import.meta.url))}`;

/** Bash: `serve NAME FLAG…` starts an attach, waits until it serves, and leaves its output in /tmp/x/NAME and NAME.log. */
const SERVE = `
  serve() {
    local name=$1; shift
    ${PCACHE} attach /dev/pmem0 /dev/vda "$@" --json >/tmp/x/$name 2>/tmp/x/$name.log & pid=$!
    for n in $(seq 2400); do
      grep -q serving /tmp/x/$name.log && return
      kill -0 $pid || { cat /tmp/x/$name.log; return 1; }
      sleep 0.1
    done
    return 1
  }`;

async function makeCache(): Promise<string> {
  const cache = join(folder, 'cache.img');
  rmSync(cache, { force: true });
  expect(await runCli(['format', cache, '--size', '512MiB'])).toMatchObject({ status: 0 });
  return cache;
}

describeWithKernel('a cache as /dev/ublkb0', (kernel) => {
  const hasDriver = !kernel.version.startsWith('7.2');
  const title =
    'goes on under its users when another server takes over from a killed one, and loses no write that was answered';
  if (!hasDriver) {
    it.skip(`${title} (skipped: this kernel has no ublk driver)`, () => undefined);
    return;
  }
  it(title, { timeout: KERNEL_TEST_TIMEOUT_MS }, async () => {
    const backing = sparseFile(join(folder, 'backing.img'), 64 * MIB);
    const file = openSync(backing, 'r+');
    writeSync(file, Buffer.alloc(4 * MIB, 0x5a), 0, 4 * MIB, 40 * MIB);
    closeSync(file);
    const cache = await makeCache();
    const result = await runGuest({
      kernel,
      cache,
      backing,
      seconds: 600,
      script: `
        ${COPY_NODE}
        ${SERVE}
        mkdir -p /tmp/m
        serve first --device auto --jobs 2
        queue=/sys/block/ublkb0/queue
        echo "device: $(cd $queue && echo $(cat ../size ../ro logical_block_size physical_block_size write_cache))"
        echo "queues: $(ls $queue/../mq | wc -l)"
        echo "limits: $(cd $queue && echo $(cat discard_granularity discard_max_bytes write_zeroes_max_bytes))"
        dd if=/dev/urandom of=/dev/ublkb0 bs=64k count=1 seek=688 oflag=direct status=none
        blkdiscard -o 40M -l 2M /dev/ublkb0
        blkdiscard -z -o 42M -l 1536k /dev/ublkb0
        for at in 40 42 43; do dd if=/dev/ublkb0 bs=1M skip=$at count=1 iflag=direct status=none | tr -d '\\0' | wc -c; done >/tmp/left
        echo "zeroed: $(echo $(cat /tmp/left))"
        mkfs.ext4 -F -q /dev/ublkb0
        mount /dev/ublkb0 /tmp/m
        cp -r "$HOST/usr/share/common-licenses" /tmp/m/
        sync
        (cd /tmp/m && find . -type f -exec sha256sum {} +) >/tmp/sums

        touch /tmp/writing
        (n=0; while [ -e /tmp/writing ]; do
          n=$((n + 1))
          dd if=/dev/urandom of=/tmp/m/f$((n % 50)).new bs=16k count=4 conv=fsync status=none
          mv /tmp/m/f$((n % 50)).new /tmp/m/f$((n % 50))
          echo $n >/tmp/written
        done) & writer=$!
        while [ "$(cat /tmp/written 2>/dev/null || echo 0)" -lt 8 ]; do sleep 0.1; done
        dd if=/dev/urandom of=/tmp/direct bs=64k count=32 status=none
        # Answered and not synced.
        dd if=/tmp/direct of=/tmp/m/direct bs=16k oflag=direct status=none
        kill -9 $pid
        sleep 1
        before=$(cat /tmp/written)
        sleep 1
        [ "$before" = "$(cat /tmp/written)" ] && echo "held: yes"
        serve second --device /dev/ublkb0 --recover
        while [ "$(cat /tmp/written)" -lt $((before + 8)) ]; do sleep 0.1; done
        rm /tmp/writing
        wait $writer
        (cd /tmp/m && sha256sum f*) >>/tmp/sums
        (cd /tmp && sha256sum direct) >>/tmp/sums
        sync
        echo 3 >/proc/sys/vm/drop_caches
        (cd /tmp/m && sha256sum --quiet -c /tmp/sums) && echo "recovered: equal"

        kill $pid
        for n in $(seq 600); do grep -q mounted /tmp/x/second.log && break; sleep 0.1; done
        (cd /tmp/m && sha256sum --quiet -c /tmp/sums) && echo "waiting: equal"
        umount /tmp/m
        wait $pid; echo "status: $?"
        echo "left: $(cd /dev && echo ublk*)"

        attach false >/dev/null
        e2fsck -fn /dev/mapper/pc >/dev/null; echo "e2fsck: $?"
        mount -o ro /dev/mapper/pc /tmp/m
        (cd /tmp/m && sha256sum --quiet -c /tmp/sums) && echo "kernel: equal"
        umount /tmp/m
        detach`,
    });
    expect(printed(result, 'device')).toEqual([`${(64 * MIB) / 512} 0 512 4096 write through`]);
    expect(printed(result, 'limits')).toEqual([`4096 ${128 * MIB} ${8 * MIB}`]);
    expect(printed(result, 'queues')).toEqual(['2']); // and one thread serves both of them in the end
    expect(printed(result, 'zeroed')).toEqual([`0 0 ${MIB / 2}`]); // the cached 64 KiB at 43 MiB are among the zeroes
    expect(printed(result, 'held')).toEqual(['yes']);
    expect(printed(result, 'recovered')).toEqual(['equal']);
    expect(printed(result, 'waiting')).toEqual(['equal']);
    expect(result.files.get('second.log')!.toString()).toContain(
      '/dev/ublkb0: mounted on /tmp/m; the cache stays attached until that use ends',
    );
    expect(printed(result, 'status')).toContain('0');
    expect(printed(result, 'left')).toEqual(['ublk-control']);
    expect(printed(result, 'e2fsck')).toEqual(['0']);
    expect(printed(result, 'kernel')).toEqual(['equal']);
    const attached = JSON.parse(result.files.get('second')!.toString()) as AttachResult;
    expect(attached).toMatchObject({ device: '/dev/ublkb0', failedRequests: 0 });
  });
});
