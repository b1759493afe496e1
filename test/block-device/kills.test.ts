/**
 * Servers of a block device with a mounted filesystem are killed (SIGKILL), one after another, at random moments while
 * files are written to it with fsync. After each kill another server takes over (ublk) or the device is attached and
 * mounted anew (nbd), and every file whose fsync was answered is read again past the page cache. Every fifth server of a
 * ublk device is killed while it starts. On ublk a second program compares a file with its model all the while, and never
 * notices a kill. Afterwards e2fsck finds nothing and the kernel's own target reads the same.
 *
 * PCACHE_KERNEL_DEVICE_KILLS=N kills that often; each takes 20 to 60 seconds.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { MIB } from '../../src/engine/media/geometry.js';
import type { AttachResult } from '../../src/nbd/attach.js';
import { diskWithPrograms } from '../kernel/guest-pcache.js';
import { runCli } from '../support/cli.js';
import { describeWithKernel, makeImageFolder, printed, runGuest } from '../support/kernel.js';
import { deviceFunctions, KILLS, REASON } from './in-guest.js';

const BACKING_BYTES = 128 * MIB;
const SECONDS = 300 + 60 * KILLS;
/** Files of a round before the kill. */
const FILES = 3;

const folder = makeImageFolder();
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** answered N: waits until the writer of the round has kept N files more than it had before. */
const FUNCTIONS = `
  cp /tmp/x/fsx /tmp/x/synced /run/p
  mkdir -p /tmp/kept
  answered() {
    local before=$written
    for n in $(seq 1200); do
      mapfile -t lines </tmp/written; written=\${#lines[@]}
      [ $written -lt $((before + $1)) ] || return 0
      pause 0.1
    done
    return 1
  }`;

interface Kind {
  readonly device: string;
  /** Bash commands before the first round and after the last one. */
  readonly before: string;
  readonly after: string;
  /** After a kill, in round $round: until the filesystem can be read again and nobody writes. */
  readonly recover: string;
}

const ublk: Kind = {
  device: '/dev/ublkb0',
  before: `
    touch /tmp/running
    fsx /tmp/m/fsx $RANDOM 1 /tmp/running >/tmp/fsx.log & fsx=$!`,
  recover: `
    if [ $((round % 5)) = 0 ]; then
      begin --device /dev/ublkb0 --recover
      pause $((RANDOM % 7)).$((RANDOM % 10))
      kill -9 $pid; wait $pid || true
    fi
    serve --device /dev/ublkb0 --recover
    mapfile -t lines </tmp/written; written=\${#lines[@]}
    answered 2
    rm /tmp/writing; wait $writer`,
  after: `
    rm /tmp/running
    wait $fsx; echo "fsx: $? $(cat /tmp/fsx.log)"`,
};

const nbd: Kind = {
  device: '/dev/nbd0',
  before: '',
  recover: `
    wait $writer && { echo 'the writer noticed nothing'; exit 1; }
    umount /tmp/m || true
    gone
    serve --device /dev/nbd0
    e2fsck -p /dev/nbd0 >/tmp/e2fsck || [ $? = 1 ]
    mount /dev/nbd0 /tmp/m`,
  after: '',
};

const scriptOf = ({ device, before, recover, after }: Kind): string => `
  ${deviceFunctions(BACKING_BYTES)}
  ${FUNCTIONS}
  serve --device ${device}
  mkfs.ext4 -F -q ${device}
  mount ${device} /tmp/m
  mkdir /tmp/m/synced; sync
  ${before}
  for round in $(seq ${KILLS}); do
    touch /tmp/writing
    : >/tmp/written; written=0
    synced write /tmp/m/synced /tmp/kept $round /tmp/writing >>/tmp/written & writer=$!
    answered ${FILES}
    pause 0.$((RANDOM % 10))
    kill -9 $pid; wait $pid || true
    ${recover}
    count=$(synced check /tmp/m/synced /tmp/kept) || { echo "round $round: $count"; exit 1; }
    echo "round: $count"
  done
  ${after}
  umount /tmp/m
  echo "sound: $(e2fsck -fn ${device} >/dev/null 2>&1; echo $?)"
  kill $pid; wait $pid; echo "status: $?"

  attach false >/dev/null
  echo "e2fsck: $(e2fsck -fn /dev/mapper/pc >/dev/null 2>&1; echo $?)"
  mount -o ro /dev/mapper/pc /tmp/m
  echo "kernel: $(synced check /tmp/m/synced /tmp/kept)"
  umount /tmp/m
  detach`;

describeWithKernel('a block device with a mounted filesystem', (kernel) => {
  const kinds = kernel.version.startsWith('7.2') ? { nbd } : { ublk, nbd };
  it.skipIf(KILLS === 0).each(Object.entries(kinds))(
    `loses nothing that was synced when its server is killed again and again, on %s${REASON}`,
    { timeout: (SECONDS + 60) * 1000 },
    async (_name, kind) => {
      const [cache, backing] = [join(folder, 'cache'), join(folder, 'disk')];
      rmSync(cache, { force: true });
      expect(await runCli(['format', cache, '--size', '512MiB'])).toMatchObject({ status: 0 });
      diskWithPrograms(backing, BACKING_BYTES);
      const started = Date.now();
      const guest = await runGuest({
        kernel,
        cache,
        backing,
        programs: ['fsx', 'synced'],
        seconds: SECONDS,
        script: scriptOf(kind),
      });
      const rounds = printed(guest, 'round').map(Number);
      expect(rounds).toHaveLength(KILLS);
      expect(Math.min(...rounds)).toBeGreaterThanOrEqual(FILES);
      expect(printed(guest, 'sound')).toEqual(['0']);
      expect(printed(guest, 'status')).toEqual(['0']);
      expect(printed(guest, 'e2fsck')).toEqual(['0']);
      expect(printed(guest, 'kernel').map(Number)).toEqual([rounds.at(-1)]);
      expect(printed(guest, 'fsx')).toEqual(kind === ublk ? [expect.stringMatching(/^0 fsx: \d+ operations$/)] : []);
      const attached = JSON.parse(guest.files.get('result')!.toString()) as AttachResult;
      expect(attached).toMatchObject({ device: kind.device, failedRequests: 0 });
      expect((await runCli(['fsck', cache])).status).toBe(0);
      const seconds = Math.round((Date.now() - started) / 1000);
      console.log(
        `${kind.device}: ${KILLS} kills in ${seconds} s; ${rounds.at(-1)} files; ${printed(guest, 'fsx').join()}`,
      );
    },
  );
});
