/**
 * Programs that check what they read, on /dev/ublkb0 and then on /dev/nbd0 of the same cache: random operations compared
 * with a model in memory (`test/kernel/guest/fsx.c`), on the device itself and on XFS, and fio with checksums and fsync.
 * Afterwards xfs_repair finds nothing, and the kernel's own target reads the same.
 *
 * It takes minutes and runs with PCACHE_KERNEL_DEVICE_KILLS only.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { MIB } from '../../src/engine/media/geometry.js';
import type { AttachResult } from '../../src/nbd/attach.js';
import { diskWithPrograms } from '../kernel/guest-pcache.js';
import { runCli } from '../support/cli.js';
import { describeWithKernel, KERNEL_TEST_TIMEOUT_MS, makeImageFolder, printed, runGuest } from '../support/kernel.js';
import { deviceFunctions, KILLS, REASON } from './in-guest.js';

/** mkfs.xfs refuses less than 300 MiB. */
const BACKING_BYTES = 320 * MIB;
const DEVICE_OPERATIONS = 100;
const FILE_OPERATIONS = 300;

const folder = makeImageFolder();
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const onDevice = (device: string): string => `
  serve --device ${device}
  echo "device ${device}: $(fsx ${device} $RANDOM ${DEVICE_OPERATIONS})"
  mkfs.xfs -qf ${device}
  mount ${device} /tmp/m
  echo "file ${device}: $(fsx /tmp/m/fsx $RANDOM ${FILE_OPERATIONS})"
  fio --name=verify --filename=/tmp/m/fio --size=8m --rw=randwrite --bsrange=4k-64k --ioengine=psync --fsync=8 \\
    --verify=crc32c --verify_fatal=1 >/tmp/fio || { cat /tmp/fio; exit 1; }
  umount /tmp/m
  mount ${device} /tmp/m
  (cd /tmp/m && sha256sum *) >/tmp/sums
  umount /tmp/m
  kill $pid; wait $pid; echo "status: $?"
  cp /tmp/result /tmp/x/result-${device.slice('/dev/'.length)}`;

describeWithKernel('a block device under programs that check what they read', (kernel) => {
  const devices = kernel.version.startsWith('7.2') ? ['/dev/nbd0'] : ['/dev/ublkb0', '/dev/nbd0'];
  it.skipIf(KILLS === 0)(
    `gives them what they wrote, itself and below XFS${REASON}`,
    { timeout: KERNEL_TEST_TIMEOUT_MS },
    async () => {
      const [cache, backing] = [join(folder, 'cache'), join(folder, 'disk')];
      rmSync(cache, { force: true });
      expect(await runCli(['format', cache, '--size', '512MiB'])).toMatchObject({ status: 0 });
      diskWithPrograms(backing, BACKING_BYTES);
      const guest = await runGuest({
        kernel,
        cache,
        backing,
        programs: ['fsx'],
        seconds: 840,
        script: `
          ${deviceFunctions(BACKING_BYTES)}
          cp /tmp/x/fsx /run/p
          ${devices.map(onDevice).join('\n')}
          attach false >/dev/null
          xfs_repair -n /dev/mapper/pc >/tmp/repair 2>&1; echo "xfs_repair: $?"
          mount -o ro /dev/mapper/pc /tmp/m
          (cd /tmp/m && sha256sum --quiet -c /tmp/sums) && echo "kernel: $(wc -l </tmp/sums)"
          umount /tmp/m
          detach`,
      });
      for (const device of devices) {
        expect(printed(guest, `device ${device}`)).toEqual([`fsx: ${DEVICE_OPERATIONS} operations`]);
        expect(printed(guest, `file ${device}`)).toEqual([`fsx: ${FILE_OPERATIONS} operations`]);
        const result = guest.files.get(`result-${device.slice('/dev/'.length)}`)!.toString();
        expect(JSON.parse(result) as AttachResult).toMatchObject({ device, failedRequests: 0 });
      }
      expect(printed(guest, 'status')).toEqual(devices.map(() => '0'));
      expect(printed(guest, 'xfs_repair')).toEqual(['0']);
      expect(printed(guest, 'kernel')).toEqual(['2']);
      expect((await runCli(['fsck', cache])).status).toBe(0);
    },
  );
});
