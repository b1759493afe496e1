/**
 * `pcache attach --kernel` inside the virtual machine: what it prints and runs for a sound cache, that it attaches none
 * whose dirty data the kernel would drop, and, with `--force`, that the kernel does drop it. All share one machine.
 */
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { decodeCacheFlags, encodeCacheFlags } from '../../src/engine/media/codecs.js';
import {
  CACHE_CTRL_OFFSET_BYTES,
  CACHE_INFO_COPIES,
  SUPERBLOCK_OFFSET_BYTES,
} from '../../src/engine/media/geometry.js';
import { temporaryFolder, writableCopy } from '../support/cli-images.js';
import { changeCacheInfo, deviceOffset, flip, ksetsOf } from '../support/damage/edit.js';
import { fixtureImage, unpackImage } from '../support/images.js';
import { describeWithKernel, KERNEL_TEST_TIMEOUT_MS, printed, runGuest, statusLines } from '../support/kernel.js';
import { SparseImage } from '../support/sparse-image.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BLOCK_BYTES = 4096;
const SECONDS = 600;
/** Bytes of the sample that the damages change: metadata, and the whole log behind it. */
const DAMAGED_BYTES = 32 * BLOCK_BYTES;

/** What is damaged, by the finding that must stop the attach. */
const DAMAGES: Readonly<Record<string, (image: SparseImage) => void>> = {
  SUPERBLOCK_BAD_CRC: (image) => flip(image, SUPERBLOCK_OFFSET_BYTES),
  SUPERBLOCK_ZERO_MAGIC: (image) => image.zero(SUPERBLOCK_OFFSET_BYTES, BLOCK_BYTES),
  CACHE_INFO_LOST: (image) => image.zero(CACHE_INFO_COPIES[0], CACHE_CTRL_OFFSET_BYTES - CACHE_INFO_COPIES[0]),
  CACHE_INFO_NOT_INITIALISED: (image) =>
    changeCacheInfo(image, (info) => ({
      ...info,
      flags: encodeCacheFlags({ ...decodeCacheFlags(info.flags), initDone: false }),
    })),
  LOG_CUT_SHORT: (image) => flip(image, deviceOffset(ksetsOf(image).places[4])),
};

/** The blocks that a damage changes, as one piece: where it begins, and what lies there then. */
function changedBlocks(image: SparseImage, damage: (image: SparseImage) => void): { block: number; bytes: Uint8Array } {
  const damaged = image.clone();
  damage(damaged);
  const [before, after] = [image, damaged].map((one) => one.bytes(0, DAMAGED_BYTES));
  const differs = [...before.keys()].filter((at) => before[at] !== after[at]);
  const [first, last] = [differs[0], differs.at(-1)!].map((at) => Math.floor(at / BLOCK_BYTES));
  return { block: first, bytes: after.slice(first * BLOCK_BYTES, (last + 1) * BLOCK_BYTES) };
}

/**
 * Copies the program into the guest's memory: it has this machine's files at $HOST, but reads them anew page by page at
 * each start. `try LABEL [FLAG]` asks for the attach and tells status, whether the device is there, and what was said.
 */
const FUNCTIONS = `
  mkdir -p /run/pcache/bundle /run/pcache/native/build/Release
  cp -L $HOST${process.execPath} /run/pcache/node
  cp $HOST${ROOT}package.json /run/pcache
  cp $HOST${ROOT}bundle/*.cjs /run/pcache/bundle
  cp $HOST${ROOT}native/build/Release/pcache_native.node /run/pcache/native/build/Release
  pcache() { /run/pcache/node /run/pcache/bundle/pcache.cjs "$@"; }
  try() {
    local status=0 there=absent
    pcache attach $CACHE $BACKING --kernel pc --run \${2:-} >/tmp/out 2>/tmp/err || status=$?
    if [ -e /dev/mapper/pc ]; then there=attached; fi
    echo "$1: $status $there $(head -c 300 /tmp/err | tr '\\n' ' ')"
  }
  put() { dd if=$1 of=$CACHE bs=${BLOCK_BYTES} seek=$2 conv=notrunc,fsync status=none; }
  save() { dd if=$CACHE of=/tmp/saved bs=${BLOCK_BYTES} skip=$1 count=$2 status=none; }
`;

describeWithKernel('attach --kernel', (kernel) => {
  const folder = temporaryFolder('attach-kernel');
  const title = 'runs what it prints, and attaches no cache whose dirty data the kernel would drop unless forced';

  it(title, { timeout: KERNEL_TEST_TIMEOUT_MS }, async () => {
    const { cachePath, backingPath } = await unpackImage('dirty-crc');
    const [cache, backing] = [writableCopy(folder, cachePath), writableCopy(folder, backingPath)];
    const image = SparseImage.fromFile(cachePath);
    const files: Record<string, Uint8Array> = {};
    const script = [FUNCTIONS];
    for (const [code, damage] of Object.entries(DAMAGES)) {
      const { block, bytes } = changedBlocks(image, damage);
      files[code] = bytes;
      script.push(`save ${block} ${bytes.length / BLOCK_BYTES}; put /tmp/x/${code} ${block}; try ${code}`);
      if (code === 'SUPERBLOCK_BAD_CRC') script.push('attach true >/dev/null 2>&1 || echo "kernel: $?"');
      script.push(`put /tmp/saved ${block}`);
    }
    const cut = changedBlocks(image, DAMAGES['LOG_CUT_SHORT']);
    script.push(
      'echo "printed: $(pcache attach $CACHE $BACKING --kernel pc | head -n 1)"',
      'try otherwise --no-data-crc',
      'try sound; cat /tmp/out; status; hash_device; detach',
      `put /tmp/x/LOG_CUT_SHORT ${cut.block}; try forced --force; hash_device; detach`,
    );
    const guest = await runGuest({ kernel, cache, backing, files, script: script.join('\n'), seconds: SECONDS });

    for (const code of Object.keys(DAMAGES)) {
      expect(printed(guest, code), guest.output.slice(-3000)).toEqual([
        expect.stringMatching(new RegExp(`^4 absent pcache: /dev/pmem0: .*${code} `)),
      ]);
    }
    expect(printed(guest, 'kernel')).toEqual(['1']);
    const table = '0 131072 pcache /dev/pmem0 /dev/vda 4 cache_mode writeback data_crc true';
    expect(printed(guest, 'printed')).toEqual([`dmsetup create pc --table '${table}'`]);
    expect(printed(guest, 'otherwise')).toEqual([expect.stringMatching(/^16 absent /)]);
    expect(printed(guest, 'sound')).toEqual([expect.stringMatching(/^0 attached/)]);
    const [status] = statusLines(guest);
    expect(guest.output).toContain(`0 131072 pcache ${status.split(' ').slice(0, 3).join(' ')}`);
    expect(printed(guest, 'forced')).toEqual([expect.stringMatching(/^0 attached .*LOG_CUT_SHORT /)]);
    const [sound, forced] = printed(guest, 'sha256');
    expect(sound).toBe(`${fixtureImage('dirty-crc').logicalSha256}  -`);
    expect(forced).not.toBe(sound);
  });
});
