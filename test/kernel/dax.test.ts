/**
 * Caches on real DAX: persistent memory that a machine may map with MAP_SYNC. As a file on ext4 and on XFS with -o dax,
 * as a DAX character device, and as the block device itself, two of them in one machine. Each is made, attached, written
 * and read through the kernel's NBD client; the server is killed and the backing device wiped; the next server recovers
 * the cache and goes on; the machine is reset, and the cache must hold all that was synced.
 *
 * An emulated machine has no processor caches, so a cache line that is not written back, or a missing fence, shows in the
 * simulation only (`test/crash`).
 *
 * It takes minutes and runs with `PCACHE_KERNEL_DAX=all` only.
 */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { MIB } from '../../src/engine/media/geometry.js';
import { describeWithClient } from '../support/clients.js';
import { describeWithKernel, KERNEL_TEST_TIMEOUT_MS, makeImageFolder, printed, runGuest } from '../support/kernel.js';
import { BACKINGS, diskWithPrograms, pcacheFunctions, sparseFile } from './guest-pcache.js';

const ALL = process.env['PCACHE_KERNEL_DAX'] === 'all';
const BACKING_BYTES = 64 * MIB;
const DATA_MIB = 6;
const DATA_AT_MIB = 3;
/** Where it is overwritten in part. */
const AFTER_MIB = 4;
const AFTER_AT_MIB = 5;
const SECONDS = 600;

type Kind = 'ext4' | 'xfs' | 'block' | 'device';

interface Way {
  /** Bash commands that make cache N on /dev/pmemN. */
  readonly make: (n: number) => string;
  /** Bash commands that make it usable after a reset. */
  readonly open: (n: number) => string;
  readonly cache: (n: number) => string;
  /** What attach says. */
  readonly name: string;
  /** What info says. */
  readonly text: string;
}

const onFilesystem = (mkfs: string): Way => ({
  make: (n) => `${mkfs} /dev/pmem${n}; mount -o dax /dev/pmem${n} /tmp/m${n}; fallocate -l 512M /tmp/m${n}/cache`,
  open: (n) => `mount -o dax /dev/pmem${n} /tmp/m${n}`,
  cache: (n) => `/tmp/m${n}/cache`,
  name: 'MAP_SYNC',
  text: 'DAX file, MAP_SYNC accepted: cache-line write-back and store fence',
});

const WAYS: Readonly<Record<Kind, Way>> = {
  ext4: onFilesystem('mkfs.ext4 -qF'),
  xfs: onFilesystem('mkfs.xfs -qf -m reflink=0'),
  block: {
    make: () => ':',
    open: () => ':',
    cache: (n) => `/dev/pmem${n}`,
    name: 'fdatasync',
    text: 'page cache: stores and fdatasync',
  },
  device: {
    make: (n) =>
      `ndctl create-namespace --force --reconfig=namespace${n}.0 --mode=devdax --map=mem >/tmp/x/ndctl; [ -c /dev/dax${n}.0 ]`,
    open: () => ':',
    cache: (n) => `/dev/dax${n}.0`,
    name: 'device DAX',
    text: 'device DAX: cache-line write-back and store fence',
  },
};

type Pair = readonly [Kind, Kind];
const PAIRS: readonly Pair[] = [
  ['ext4', 'block'],
  ['xfs', 'device'],
];

/** The commands for cache 0 and for cache 1, at the same time. Fails when either does. */
function both(commands: (n: number) => string): string {
  const parts = Array.from({ length: BACKINGS }, (_, n) => `{ ${commands(n)}\n} & part${n}=$!\n`);
  return `${parts.join('')}${parts.map((_, n) => `wait $part${n}\n`).join('')}`;
}

/** The commands for cache 0, then for cache 1. */
const each = (commands: (n: number) => string): string =>
  Array.from({ length: BACKINGS }, (_, n) => `${commands(n)}\n`).join('');

const write = (n: number, file: string, atMib: number, blockKib: number): string =>
  `dd if=/tmp/x/${file} of=/dev/nbd${n} bs=${blockKib}k seek=${(atMib * 1024) / blockKib} conv=fsync,notrunc status=none`;

/** Compares what a command gives, from its `skipMib` on, with a file. */
const compare = (command: string, skipMib: number): string =>
  `${command} | cmp -i ${skipMib * MIB}:0 -n ${DATA_MIB * MIB} - `;
const readNbd = (n: number): string =>
  `dd if=/dev/nbd${n} bs=1M skip=${DATA_AT_MIB} count=${DATA_MIB} iflag=direct status=none`;

const fio = (n: number, how: string): string =>
  `fio --name=life --filename=/dev/nbd${n} --direct=1 --ioengine=psync --rw=randwrite --bs=4k --offset=32M --size=4M \
    --end_fsync=1 --verify=crc32c --verify_fatal=1 ${how} >/tmp/x/fio${n} || { cat /tmp/x/fio${n}; false; }`;

const serveBoth = (pair: Pair, flag = ''): string =>
  `${each((n) => `begin ${n} ${WAYS[pair[n]].cache(n)} ${flag}`)}${each((n) => `serving ${n}`)}`;

/** Until the reset. */
const firstLife = (pair: Pair): string => `
  ${each((n) => WAYS[pair[n]].make(n))}
  ${both((n) => `pcache format ${WAYS[pair[n]].cache(n)} >/dev/null`)}
  ${serveBoth(pair)}
  ${each((n) => `echo "${pair[n]} serving: $(grep -o '(.*)' /tmp/x/log${n})"`)}
  ${both((n) => `${write(n, 'data', DATA_AT_MIB, 256)}; ${compare(readNbd(n), 0)} /tmp/x/data`)}
  ${each((n) => fio(n, ''))}
  kill -9 \${pid[0]} \${pid[1]}
  ${each((n) => `gone ${n}; dd if=/dev/zero of=/dev/mapper/backing${n} bs=1M count=${BACKING_BYTES / MIB} oflag=direct status=none`)}
  ${serveBoth(pair, '--force-backing')}
  ${both((n) => `${compare(readNbd(n), 0)} /tmp/x/data && echo "${pair[n]} recovered: yes"`)}
  ${each((n) => fio(n, '--verify_only'))}
  ${both((n) => write(n, 'after', AFTER_AT_MIB, 64))}
  echo "reset: now"
  echo b >/proc/sysrq-trigger
  sleep 60`;

/** After the reset, and with backing devices of zeroes. */
const secondLife = (pair: Pair): string => `
  ${each((n) => WAYS[pair[n]].open(n))}
  ${both((n) => `pcache fsck ${WAYS[pair[n]].cache(n)} /dev/mapper/backing${n}`)}
  ${both((n) => `pcache info ${WAYS[pair[n]].cache(n)} | sed -n 's/durability: */${pair[n]} info: /p'`)}
  ${both(
    (n) =>
      `${compare(`pcache cat ${WAYS[pair[n]].cache(n)} /dev/mapper/backing${n}`, DATA_AT_MIB)} /tmp/x/expected && echo "${pair[n]} kept: yes"`,
  )}`;

const folder = makeImageFolder();
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describeWithClient('a cache on real DAX', 'ndctl', () => {
  describeWithKernel('in a machine', (kernel) => {
    if (!ALL) {
      it.skip('keeps what was synced, on each kind of DAX (skipped: needs PCACHE_KERNEL_DAX=all)', () => undefined);
      return;
    }
    it.each(PAIRS)(
      'as %s and as %s keeps what was synced when its server is killed and when the machine is reset',
      { timeout: 2 * KERNEL_TEST_TIMEOUT_MS },
      async (...pair) => {
        const data = randomBytes(DATA_MIB * MIB);
        const after = randomBytes(AFTER_MIB * MIB);
        const expected = Buffer.from(data);
        after.copy(expected, (AFTER_AT_MIB - DATA_AT_MIB) * MIB);
        const machine = {
          kernel,
          cache: sparseFile(join(folder, 'unused'), 2 * MIB),
          backing: join(folder, 'disk'),
          memory: sparseFile(join(folder, 'memory'), 2048 * MIB),
          seconds: SECONDS,
        };
        const prelude = `mkdir -p /tmp/m0 /tmp/m1\n${pcacheFunctions(BACKING_BYTES)}`;
        diskWithPrograms(machine.backing, BACKING_BYTES);
        const first = await runGuest({
          ...machine,
          files: { data, after },
          crashes: true,
          script: `${prelude}${firstLife(pair)}`,
        });
        expect(printed(first, 'reset'), first.output).toEqual(['now']);
        for (const kind of pair) {
          expect(printed(first, `${kind} serving`), first.output).toEqual([`(${WAYS[kind].name})`]);
          expect(printed(first, `${kind} recovered`), first.output).toEqual(['yes']);
        }
        diskWithPrograms(machine.backing, BACKING_BYTES);
        const second = await runGuest({ ...machine, files: { expected }, script: `${prelude}${secondLife(pair)}` });
        for (const kind of pair) {
          expect(printed(second, `${kind} info`), second.output).toEqual([WAYS[kind].text]);
          expect(printed(second, `${kind} kept`), second.output).toEqual(['yes']);
        }
      },
    );
  });
});
