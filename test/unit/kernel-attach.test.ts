/** `attach --kernel`: which caches are not given to a kernel, and what is said when that is forced. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { InspectedDevices } from '../../src/engine/inspect/open.js';
import type { FindingCode } from '../../src/fsck/catalogue.js';
import {
  givenUpLines,
  kernelOf,
  kernelRefusal,
  planFor,
  requireName,
  tableArgument,
  type KernelAttach,
} from '../../src/kernel/kernel-attach.js';
import { loadBases, shapeOf, type Base } from '../support/damage/bases.js';
import type { BaseName } from '../support/damage/damagers.js';
import { changeCacheInfo, deviceOffset, flip, ksetsOf } from '../support/damage/edit.js';
import type { Overlay } from '../support/damage/overlay.js';

let bases: Map<BaseName, Base>;
beforeAll(async () => {
  bases = await loadBases();
});

function plan(damage: (image: Overlay) => void = () => undefined): KernelAttach {
  const pmem = bases.get('dirty-crc')!.device.clone();
  damage(pmem);
  const backing = { sizeBytes: shapeOf('dirty-crc').backingBytes } as InspectedDevices['backing'];
  const options = { name: 'pc', cachePath: '/dev/pmem0', backingPath: '/dev/vda', dataCrc: undefined };
  const devices = { pmem, backing, close: () => undefined };
  return planFor({ ...options, onProgress: () => undefined }, devices, '7.2');
}

const codes = ({ refusals }: KernelAttach): FindingCode[] => refusals.map(({ code }) => code);

describe('a plan to attach a cache with the kernel', () => {
  it('has nothing against a sound cache', () => {
    expect(plan()).toMatchObject({ refusals: [], notes: [] });
    expect(plan().table).toMatch(/^0 131072 pcache \/dev\/pmem0 \/dev\/vda 4 cache_mode writeback data_crc true$/);
  });

  it.each<[string, FindingCode, (image: Overlay) => void]>([
    ['lost cache_info, which the kernel takes for a new cache', 'CACHE_INFO_LOST', (image) => image.zero(8192, 8192)],
    [
      'INIT_DONE cleared, which the kernel empties',
      'CACHE_INFO_NOT_INITIALISED',
      (image) => changeCacheInfo(image, (info) => ({ ...info, flags: info.flags & ~2 })),
    ],
    ['a wiped superblock, which the kernel formats', 'SUPERBLOCK_ZERO_MAGIC', (image) => image.zero(4096, 4096)],
    [
      'a log that is cut short, which the kernel overwrites',
      'LOG_CUT_SHORT',
      (image) => flip(image, deviceOffset(ksetsOf(image).places[4])),
    ],
  ])('refuses %s, and names what is given up when that is forced', (_what, code, damage) => {
    const { refusals } = plan(damage);
    expect(refusals.map((one) => one.code)).toContain(code);
    const error = kernelRefusal('/dev/pmem0', refusals);
    expect(error).toMatchObject({ code: 'BAD_MEDIA', exitStatus: 4 });
    expect(error.message).toMatch(/; run "pcache fsck \/dev\/pmem0" first, or give --force$/);
    expect(givenUpLines('/dev/pmem0', refusals).join('\n')).toMatch(new RegExp(`forced: ${code} .*; the kernel `));
  });

  it('lets the torn end of a log pass, which a crash leaves too', () => {
    const torn = plan((image) => flip(image, deviceOffset(ksetsOf(image).places.at(-1)!) + 40));
    expect(codes(torn)).toEqual([]);
    expect(torn.notes.join()).toBe('');
  });
});

describe('the kernel of a release', () => {
  it.each([
    ['6.18.0', '6.18'],
    ['6.18.3-amd64', '6.18'],
    ['6.18.4', '7.2'],
    ['6.19.0-rc1', '7.2'],
    ['7.2.13', '7.2'],
    ['7.3.0-rc7', '7.3'],
    ['8.0.1', '7.3'],
  ] as const)('%s behaves as %s', (text, kernel) => expect(kernelOf(text)).toBe(kernel));
});

describe('a name for /dev/mapper', () => {
  const outside = [
    '',
    '-f',
    '--help',
    '--noudevsync',
    'a b',
    'a/b',
    '../x',
    'a;id',
    'a$(id)',
    'a\nb',
    'ü',
    'n'.repeat(128),
  ];
  it.each(outside)('is refused when device-mapper or dmsetup would not take it as it is: %j', (name) => {
    expect(() => requireName(name)).toThrow(/is not a device-mapper name; use up to 127 letters, digits/);
  });
  it.each(['.', '..', 'control'])('is refused when it means something else there: %j', (name) => {
    expect(() => requireName(name)).toThrow(/has a meaning of its own in \/dev\/mapper; give another name/);
  });
  it.each(['pc', 'a-f', 'controls', '.x', 'n'.repeat(127)])('is taken when it is plain: %j', (name) => {
    expect(() => requireName(name)).not.toThrow();
  });
});

describe('a path in a device-mapper table', () => {
  it.each([
    ['/dev/pmem0', '/dev/pmem0'],
    ['/d/a 0 1 linear', '/d/a\\ 0\\ 1\\ linear'],
    ['/d/tab\there', '/d/tab\\\there'],
    ['/d/back\\slash', '/d/back\\\\slash'],
    ['/d/ba"ck; rm -rf x', '/d/ba"ck;\\ rm\\ -rf\\ x'],
  ])('is one argument: %j', (path, argument) => expect(tableArgument(path)).toBe(argument));

  it('is absolute, so that it cannot be taken for the number of a device', () => {
    expect(tableArgument('8:16')).toBe(`${process.cwd()}/8:16`);
  });
  it.each(['/d/n\nl', '/d/\r', '/d/à'])('is refused when it cannot be written in one: %j', (path) => {
    expect(() => tableArgument(path)).toThrow(/make a symbolic link to it with a plain name$/);
  });
});
