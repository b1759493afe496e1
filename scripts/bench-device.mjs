/**
 * npm run bench:device [-- --seconds N --rounds N --warm-up N --only TEXT --jobs N]: fio on block devices in a virtual machine: the ublk and
 * the nbd device of `pcache attach --device`, each over a cache on emulated persistent memory (a DAX character device), a loop device
 * over a file in tmpfs, and null_blk. All take turns within one run. Printed are medians, and ratios of turns next to one
 * another as median (min-max): above 1 ublk is the faster one. The machine is emulated by software: only ratios mean
 * something. Needs the last kernel of PCACHE_TEST_KERNEL, QEMU, fio, ndctl and the bundle (`npm run build`).
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median, spread } from './bench-figures.mjs';

const { values } = parseArgs({
  options: {
    'seconds': { type: 'string', default: '4' },
    'rounds': { type: 'string', default: '3' },
    'warm-up': { type: 'string', default: '20' },
    'only': { type: 'string', default: '' },
    'jobs': { type: 'string', default: '1' },
  },
});
const ROOT = fileURLToPath(new URL('../', import.meta.url));
const PRELUDE = join(ROOT, 'test/kernel/guest/prelude.sh');
/** A QEMU whose memory is in part persistent memory that may be mapped with MAP_SYNC. */
const LEGACY_PMEM = join(ROOT, 'test/support/legacy-pmem');
/** Tests of the kernel take it too: one machine at a time. */
const LOCK_PATH = join(tmpdir(), 'pcache-test-kernel.lock');
const VM_SECONDS_MAX = 1500;
const MIB = 1024 * 1024;
const BACKING_MIB = 128;
/** All of it fits into a cache, so that every read is a hit. */
const WORKING_SET_MIB = 48;
const DEVICES = { ublk: '/dev/ublkb0', nbd: '/dev/nbd0', loop: '/dev/loop0', null_blk: '/dev/nullb0' };
/** Of ublk beside the others, random writes at depth 32. */
const AIMS = { nbd: 2, loop: 0.7 };
const JOBS = [
  { id: 'write32', name: 'random write 4 KiB, depth 32', pattern: 'randwrite', depth: 32, aims: AIMS },
  { id: 'read32', name: 'random read 4 KiB, depth 32', pattern: 'randread', depth: 32, aims: {} },
  { id: 'write1', name: 'random write 4 KiB, depth 1', pattern: 'randwrite', depth: 1, aims: {} },
  { id: 'read1', name: 'random read 4 KiB, depth 1', pattern: 'randread', depth: 1, aims: {} },
].filter(({ name }) => name.includes(values.only));
const ROUNDS = Number(values.rounds);

const kernel = (process.env.PCACHE_TEST_KERNEL ?? '').split(delimiter).at(-1);
if (kernel === '') throw new Error('PCACHE_TEST_KERNEL names no folder with a kernel');
const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'pcache-bench-'));
const exchange = mkdtempSync(join(tmpdir(), 'pcache-bench-'));
try {
  const output = await runMachine();
  print(output);
} finally {
  rmSync(folder, { recursive: true, force: true });
  rmSync(exchange, { recursive: true, force: true });
}

function sparse(name, sizeBytes) {
  const path = join(folder, name);
  const fd = openSync(path, 'w');
  ftruncateSync(fd, sizeBytes);
  closeSync(fd);
  return path;
}

/** Programs with their libraries. The guest copies them into its memory: from this machine's files they start slowly. */
function programs() {
  const paths = [process.execPath, which('fio')];
  const libraries = paths.flatMap((path) =>
    [...execFileSync('ldd', [path], { encoding: 'utf8' }).matchAll(/ => (\/\S+)/g)].map(([, file]) => file),
  );
  return [...new Set([...paths, ...libraries])];
}

function which(program) {
  return execFileSync('sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).trim();
}

/** Bash: caches 0 and 1 as DAX character devices, each with a piece of /dev/vda as its backing device. */
function setUp() {
  return `
    mkdir -p /run/p
    cp -L ${programs().join(' ')} /run/p
    tar -C $HOST${ROOT} --exclude='*.map' -cf - bundle package.json native/build/Release/pcache_native.node | tar -C /run/p -xf -
    PCACHE="env LD_LIBRARY_PATH=/run/p NODE_OPTIONS=--no-warnings /run/p/node /run/p/bundle/pcache.cjs"
    serve() {
      local n=$1 device=$2 cache=/dev/dax$1.0
      ndctl create-namespace --force --reconfig=namespace$n.0 --mode=devdax --map=mem >/dev/null
      dmsetup create backing$n --table "0 ${BACKING_MIB * 2048} linear /dev/vda $((n * ${BACKING_MIB * 2048}))"
      $PCACHE format $cache >/dev/null
      $PCACHE attach $cache /dev/mapper/backing$n --device $device --jobs ${values.jobs} 2>/tmp/log$n &
      for try in $(seq 300); do
        if grep serving /tmp/log$n; then return; fi
        sleep 1
      done
      cat /tmp/log$n; return 1
    }
    devices=
    if [ -e /dev/ublk-control ]; then serve 0 ${DEVICES.ublk}; devices="$devices ublk"; else echo 'missing: ublk'; fi
    if [ -e /dev/nbd0 ]; then serve 1 ${DEVICES.nbd}; devices="$devices nbd"; else echo 'missing: nbd'; fi
    if [ -e /dev/loop-control ]; then
      truncate -s ${WORKING_SET_MIB}M /tmp/file; losetup ${DEVICES.loop} /tmp/file; devices="$devices loop"
    else echo 'missing: loop'; fi
    if [ -b ${DEVICES.null_blk} ]; then devices="$devices null_blk"; else echo 'missing: null_blk'; fi`;
}

function script() {
  const paths = Object.entries(DEVICES).map(([name, path]) => `[${name}]=${path}`);
  const turns = JOBS.flatMap(({ id, pattern, depth }) =>
    Array.from({ length: ROUNDS }, (_, round) => {
      const how = `--rw=${pattern} --bs=4k --iodepth=${depth} --time_based --runtime=${values.seconds} --randrepeat=0`;
      return `for name in $devices; do bench $name ${how} --output-format=json --output=/tmp/x/$name-${id}-${round}; done`;
    }),
  );
  return `
    declare -A paths=(${paths.join(' ')})
    bench() {
      LD_LIBRARY_PATH=/run/p /run/p/fio --name=bench --filename=\${paths[$1]} --ioengine=libaio --direct=1 --eta=never \\
        --size=${WORKING_SET_MIB}m "\${@:2}"
    }
    ${setUp()}
    for name in $devices; do
      bench $name --rw=write --bs=128k --iodepth=8 --output=/tmp/filled
      bench $name --rw=randwrite --bs=4k --iodepth=32 --time_based --runtime=${values['warm-up']} --output=/tmp/warm
    done
    ${turns.join('\n')}
    echo 'bench: done'`;
}

/** @returns what the guest printed */
async function runMachine() {
  writeFileSync(join(exchange, 'guest.sh'), `${readFileSync(PRELUDE, 'utf8')}\n${script()}\n`);
  const images = [sparse('unused', 2 * MIB), sparse('backing', 2 * BACKING_MIB * MIB)];
  const command = ['bash', join(kernel, 'vm.sh'), ...images, exchange, String(VM_SECONDS_MAX)];
  const env = {
    ...process.env,
    PATH: `${LEGACY_PMEM}${delimiter}${process.env.PATH ?? ''}`,
    PCACHE_QEMU: which('qemu-system-x86_64'),
    PCACHE_GUEST_MEMORY: sparse('memory', 2048 * MIB),
  };
  const child = spawn('flock', ['-F', LOCK_PATH, ...command], { stdio: ['ignore', 'pipe', 'inherit'], env });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (output += text));
  await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (!/^bench: done/m.test(output)) throw new Error(`the machine did not come to the end:\n${output.slice(-4000)}`);
  return output.replaceAll('\r', '');
}

function print(output) {
  console.log('In a machine that is emulated by software: only the ratios mean something.');
  for (const [, line] of output.matchAll(/^pcache: (serving .*)$/gm)) console.log(line);
  const missing = [...output.matchAll(/^missing: (.*)$/gm)].map(([, name]) => name);
  for (const name of missing) console.log(`${name}: not in this kernel, left out`);
  const names = Object.keys(DEVICES).filter((name) => !missing.includes(name));
  for (const job of JOBS) printJob(job, names);
}

function printJob({ id, name, aims }, names) {
  console.log(`\n${name}`);
  const rates = Object.fromEntries(
    names.map((device) => [device, Array.from({ length: ROUNDS }, (_, round) => rateOf(`${device}-${id}-${round}`))]),
  );
  for (const [device, of] of Object.entries(rates)) {
    const line = `  ${device.padEnd(10)}${median(of).toFixed(0).padStart(8)}/s`;
    if (device === 'ublk' || rates.ublk === undefined) {
      console.log(line);
      continue;
    }
    const ratios = rates.ublk.map((rate, round) => rate / of[round]);
    console.log(`${line}   ublk / ${device}: ${spread(ratios)}${verdict(median(ratios), aims[device])}`);
  }
}

function verdict(ratio, aim) {
  if (aim === undefined) return '';
  return `, at least ${aim.toFixed(1)}: ${ratio >= aim ? 'yes' : 'no'}`;
}

function rateOf(name) {
  const text = readFileSync(join(exchange, name), 'utf8');
  const [{ read, write }] = JSON.parse(text.slice(text.indexOf('{'))).jobs;
  return read.iops + write.iops;
}
