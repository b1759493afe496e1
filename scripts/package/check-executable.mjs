/**
 * Makes the single executable and runs it in a bare root folder: glibc, sh and env of busybox, /dev/null
 * and /proc, nothing else.
 * There it works on a kernel-made cache. Usage: npm run sea:check, as root.
 * Debian: apt install gcc busybox-static libnbd-bin
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeExecutable } from './executable.mjs';
import { root } from './root.mjs';

const LIBRARIES = ['libc.so.6', 'libm.so.6', 'libdl.so.2', 'libpthread.so.0'];
const LOADER = '/lib64/ld-linux-x86-64.so.2';
const IMAGE = 'dirty-crc';
const ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
const SOCKET_WAIT_MS = 10_000;

function sh(command, args, options = {}) {
  const result = spawnSync(command, args, { maxBuffer: 2 ** 28, ...options });
  if (result.status !== 0) {
    const said = `${result.stdout ?? ''}`.slice(-2000) + `${result.stderr ?? ''}`.slice(-2000);
    throw new Error(`${[command, ...args].join(' ')} ended with ${result.status ?? result.error?.message}: ${said}`);
  }
  return result.stdout;
}

function expectThat(condition, message) {
  if (!condition) throw new Error(message);
}

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

function makeBareRoot(folder, executable) {
  const libraries = join('lib', 'x86_64-linux-gnu');
  for (const name of ['bin', 'lib64', libraries, 'proc', 'tmp', 'dev'])
    mkdirSync(join(folder, name), { recursive: true });
  sh('mknod', [join(folder, 'dev', 'null'), 'c', '1', '3']);
  for (const name of ['sh', 'env']) copyFileSync('/usr/bin/busybox', join(folder, 'bin', name));
  copyFileSync(LOADER, join(folder, LOADER));
  for (const name of LIBRARIES) copyFileSync(join('/', libraries, name), join(folder, libraries, name));
  copyFileSync(executable, join(folder, 'bin', 'pcache'));
  copyFileSync(join(root, 'fixtures', 'traces', 'pgbench.blktrace.0.gz'), join(folder, 'pg.blktrace.0.gz'));
  copyFileSync(join(root, 'fixtures', 'traces', 'pgbench.blktrace.1.gz'), join(folder, 'pg.blktrace.1.gz'));
  layImages(folder);
}

/** The images as the kernel left them. */
function layImages(folder) {
  for (const end of ['pmem', 'back']) {
    const packed = join(root, 'fixtures', 'images', `${IMAGE}.${end}.gz.gz`);
    const copy = 'gzip -dc "$1" | gzip -dc | cp --sparse=always /dev/stdin "$2"';
    sh('sh', ['-c', copy, 'sh', packed, join(folder, `${IMAGE}.${end}`)]);
  }
}

function expectedSum() {
  const lines = readFileSync(join(root, 'fixtures', 'images', 'expect.tsv'), 'utf8').split('\n');
  return lines.find((line) => line.startsWith(`${IMAGE}\t`)).split('\t')[3];
}

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
    const copy = sh('nbdcopy', [`nbd+unix:///?socket=${socket}`, '-']);
    expectThat(sha256(copy) === expectedSum(), 'attach served other data than the kernel has');
  } finally {
    server.kill('SIGTERM');
  }
  expectThat((await ended) === 0, `attach did not end in order: ${said}`);
}

async function checkIn(folder) {
  const pcache = (...args) => sh('chroot', [folder, '/bin/pcache', ...args], { env: ENVIRONMENT });
  const devices = [`/${IMAGE}.pmem`, `/${IMAGE}.back`];
  const sum = expectedSum();
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
  layImages(folder);
  pcache('writeback', ...devices);
  expectThat(sha256(readFileSync(join(folder, `${IMAGE}.back`))) === sum, 'writeback left other data than the kernel');
  // Worker threads, and the files of the report.
  pcache('replay', '/pg.blktrace', '--sizes', '512MiB,640MiB', '--limit', '2000', '--report', '/report.html');
  expectThat(readFileSync(join(folder, 'report.html'), 'utf8').includes('uPlot'), 'the report lacks its library');
  pcache('bench', '--jobs', '2', '--seconds', '1', '--cache-size', '512MiB', '--span', '64MiB');
  pcache('attach', ...devices, '--exec', 'echo "[$LD_PRELOAD]" >/preload');
  expectThat(readFileSync(join(folder, 'preload'), 'utf8') === '[]\n', 'children of the program get LD_PRELOAD');
  const left = readdirSync(join(folder, 'tmp'));
  expectThat(left.length === 0, `files were left in /tmp: ${left.join(', ')}`);
  return version;
}

if (process.getuid() !== 0) {
  process.stdout.write('sea:check: skipped: needs root, for chroot\n');
} else {
  const folder = mkdtempSync(join(tmpdir(), 'pcache-bare-'));
  try {
    const executable = await makeExecutable();
    makeBareRoot(folder, executable);
    sh('mount', ['-t', 'proc', 'proc', join(folder, 'proc')]);
    const version = await checkIn(folder);
    process.stdout.write(`${basename(executable)}: ${version} works with glibc alone\n`);
  } catch (error) {
    process.stderr.write(`sea:check: ${error.message}\n`);
    process.exitCode = 1;
  } finally {
    spawnSync('umount', [join(folder, 'proc')]);
    // A folder that is still mounted must not be emptied.
    if (readdirSync(join(folder, 'proc')).length === 0) rmSync(folder, { recursive: true, force: true });
  }
}
