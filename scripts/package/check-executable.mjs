/**
 * Makes the single executable and runs it in a bare root folder: glibc, sh and env of busybox, /dev/null
 * and /proc, nothing else. There it works on a kernel-made cache. With PCACHE_TEST_KERNEL it also works in the initramfs of
 * that kernel. Usage: npm run sea:check, as root. Debian: apt install gcc busybox-static libnbd-bin [qemu-system-x86]
 */
import { spawn } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeBareRoot } from './bare-root.mjs';
import { check, expectThat, kernelSum, layImages, run, sha256 } from './checks.mjs';
import { checkInMachine } from './executable-vm.mjs';
import { makeExecutable } from './executable.mjs';
import { root } from './root.mjs';

const IMAGE = 'dirty-crc';
const ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
const SOCKET_WAIT_MS = 10_000;

async function checkAttach(folder, devices) {
  const socket = join(folder, 'pc.sock');
  const server = spawn('chroot', [folder, '/bin/pcache', 'attach', ...devices, '--socket', '/pc.sock'], {
    env: ENVIRONMENT,
  });
  let said = '';
  server.stderr.on('data', (text) => (said += text));
  const ended = new Promise((resolve) => server.on('exit', resolve));
  try {
    for (let waitedMs = 0; !existsSync(socket); waitedMs += 50) {
      expectThat(waitedMs < SOCKET_WAIT_MS && server.exitCode === null, `attach does not serve: ${said}`);
      await sleep(50);
    }
    const copy = run('nbdcopy', [`nbd+unix:///?socket=${socket}`, '-'], { encoding: 'buffer' });
    expectThat(sha256(copy) === kernelSum(IMAGE), 'attach served other data than the kernel has');
  } finally {
    server.kill('SIGTERM');
  }
  expectThat((await ended) === 0, `attach did not end in order: ${said}`);
}

async function checkIn(folder) {
  const pcache = (...args) => run('chroot', [folder, '/bin/pcache', ...args], { env: ENVIRONMENT, encoding: 'buffer' });
  const devices = [`/${IMAGE}.pmem`, `/${IMAGE}.back`];
  const sum = kernelSum(IMAGE);
  layImages(IMAGE, folder);
  const version = pcache('--version').toString().trim();
  pcache('--help');
  expectThat(`${pcache('info', ...devices)}`.includes('data_crc:       on'), 'info shows no data_crc');
  expectThat(`${pcache('fsck', ...devices)}`.includes('clean'), 'fsck does not say clean');
  expectThat(sha256(pcache('cat', ...devices)) === sum, 'cat gives other data than the kernel has');
  expectThat(`${pcache('map', ...devices, '0-1M')}`.includes('current'), 'map shows no keys');
  expectThat(`${pcache('dump-keys', devices[0], '--json')}`.startsWith('{'), 'dump-keys prints no keys');
  pcache('pack', devices[0], '/made.pack');
  pcache('unpack', '/made.pack', '/unpacked.img');
  await checkAttach(folder, devices);
  rmSync(join(folder, 'unpacked.img'));
  layImages(IMAGE, folder);
  pcache('writeback', ...devices);
  expectThat(sha256(readFileSync(join(folder, `${IMAGE}.back`))) === sum, 'writeback left other data than the kernel');
  // Worker threads, and the files of the report.
  for (const cpu of [0, 1]) {
    const part = `pgbench.blktrace.${cpu}.gz`;
    copyFileSync(join(root, 'fixtures', 'traces', part), join(folder, part));
  }
  pcache('replay', '/pgbench.blktrace', '--sizes', '512MiB,640MiB', '--limit', '2000', '--report', '/report.html');
  expectThat(readFileSync(join(folder, 'report.html'), 'utf8').includes('uPlot'), 'the report lacks its library');
  pcache('bench', '--jobs', '2', '--seconds', '1', '--cache-size', '512MiB', '--span', '64MiB');
  pcache('attach', ...devices, '--exec', 'echo "[$LD_PRELOAD]" >/preload');
  expectThat(readFileSync(join(folder, 'preload'), 'utf8') === '[]\n', 'children of the program get LD_PRELOAD');
  const left = readdirSync(join(folder, 'tmp'));
  expectThat(left.length === 0, `files were left in /tmp: ${left.join(', ')}`);
  return version;
}

await check('sea:check', { rootFor: 'chroot' }, async (folder) => {
  const executable = await makeExecutable();
  const bare = join(folder, 'bare');
  makeBareRoot(bare, executable);
  run('mount', ['-t', 'proc', 'proc', join(bare, 'proc')]);
  let version;
  try {
    version = await checkIn(bare);
  } finally {
    run('umount', [join(bare, 'proc')]);
  }
  const works = `${basename(executable)}: ${version} works with glibc alone`;
  const [kernel] = (process.env.PCACHE_TEST_KERNEL ?? '').split(':');
  if (kernel === '') return `${works}; PCACHE_TEST_KERNEL names no kernel to try it with`;
  const seconds = await checkInMachine({ kernel, folder, executable, image: IMAGE });
  return `${works}, and in the initramfs of ${basename(kernel)} (${seconds.toFixed(0)} s)`;
});
