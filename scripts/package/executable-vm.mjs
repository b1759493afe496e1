/**
 * The single executable as the only program of an initramfs, beside busybox, on the persistent memory of a kernel in a
 * virtual machine: what a rescue system has. The kernel's image and `vm.sh` lie in a folder of PCACHE_TEST_KERNEL.
 */
import { spawn } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, openSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BUSYBOX, makeBareRoot } from './bare-root.mjs';
import { expectThat, kernelSum, layImages, run, sha256 } from './checks.mjs';

const VM_SECONDS_MAX = 300;
/** An error has this much of the console. */
const CONSOLE_CHARS_MAX = 3000;

/**
 * What the machine runs. The last line tells that all of it ran. Commands that only read run two at a time: a start takes
 * seconds in an emulated processor, of which the machine has two.
 */
const INIT = `#!/bin/sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev
step() { "$@" >/tmp/$2.out 2>&1; echo "== $2 $?" >>/tmp/$2.out; }
step pcache info /dev/pmem0 /dev/vda &
step pcache fsck /dev/pmem0 /dev/vda
wait
step pcache map /dev/pmem0 /dev/vda 0-64K &
pcache cat /dev/pmem0 /dev/vda | sha256sum >/tmp/cat.sum
wait
step pcache dump-keys /dev/pmem0 --json &
step pcache pack /dev/pmem0 /tmp/made.pack
wait
step pcache attach /dev/pmem0 /dev/vda --exec 'echo "served at $PCACHE_URI"'
step pcache writeback /dev/pmem0 /dev/vda
sha256sum </dev/vda >/tmp/backing.sum
for name in info fsck map dump-keys pack attach writeback; do tail -n 30 /tmp/$name.out; done
for name in cat backing; do echo "== sum of $name $(cat /tmp/$name.sum)"; done
echo "== end"
sync; poweroff -f
`;

/** Not compressed: the kernel takes both, and this is quicker. */
function writeInitramfs(folder, path) {
  copyFileSync(BUSYBOX, join(folder, 'bin', 'busybox'));
  writeFileSync(join(folder, 'init'), INIT);
  chmodSync(join(folder, 'init'), 0o755);
  run('sh', ['-c', 'cd "$1" && find . | busybox cpio -o -H newc >"$2"', 'sh', folder, path]);
}

/** @param image name of a kernel-made cache of the fixtures, with dirty data and data_crc. @returns seconds it took */
export async function checkInMachine({ kernel, folder, executable, image }) {
  const bare = join(folder, 'initramfs');
  const machine = join(folder, 'machine');
  const exchange = join(folder, 'exchange');
  makeBareRoot(bare, executable);
  for (const made of [machine, exchange]) mkdirSync(made);
  copyFileSync(join(kernel, 'vm.sh'), join(machine, 'vm.sh'));
  symlinkSync(join(kernel, 'bzImage'), join(machine, 'bzImage'));
  writeInitramfs(bare, join(machine, 'initrd.gz'));
  layImages(image, folder);
  const log = join(folder, 'console');
  const [cache, backing] = ['pmem', 'back'].map((end) => join(folder, `${image}.${end}`));
  const startedMs = Date.now();
  const vm = spawn('bash', [join(machine, 'vm.sh'), cache, backing, exchange, String(VM_SECONDS_MAX)], {
    stdio: ['ignore', openSync(log, 'w'), 'inherit'],
  });
  await new Promise((resolve) => vm.on('exit', resolve));
  const seconds = (Date.now() - startedMs) / 1000;
  const said = readFileSync(log, 'utf8').replaceAll('\r', '');
  const end = said.slice(-CONSOLE_CHARS_MAX);
  expectThat(said.includes('== end\n'), `the virtual machine did not get to the end: ${end}`);
  for (const command of ['info', 'fsck', 'map', 'dump-keys', 'pack', 'attach', 'writeback'])
    expectThat(said.includes(`== ${command} 0\n`), `in the virtual machine ${command} failed: ${end}`);
  for (const what of ['cat', 'backing'])
    expectThat(
      said.includes(`== sum of ${what} ${kernelSum(image)}`),
      `${what} has other data than the kernel: ${end}`,
    );
  for (const words of [/^durability: +(?!page cache)/m, /clean/, /current/, /^\{"/m, /served at nbd/])
    expectThat(words.test(said), `the virtual machine did not say ${words}: ${end}`);
  const left = sha256(readFileSync(backing));
  expectThat(left === kernelSum(image), 'the backing device holds other data than the virtual machine wrote');
  return seconds;
}
