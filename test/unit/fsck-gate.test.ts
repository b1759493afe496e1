/** The gate before commands: what it says of sound and damaged caches, and of what each kernel does with them. */
import { beforeAll, describe, expect, it } from 'vitest';
import { PcacheError } from '../../src/engine/errors.js';
import { CATALOGUE, type FindingCode } from '../../src/fsck/catalogue.js';
import { dirtyRisk, kernelEffect, KERNELS } from '../../src/fsck/consequences.js';
import { judgeCache, kernelText, refuseKernel, refuseLosses, type GateVerdict } from '../../src/fsck/gate.js';
import { BASE_NAMES, loadBases, shapeOf, type Base } from '../support/damage/bases.js';
import type { BaseName } from '../support/damage/damagers.js';
import { changeCacheInfo, deviceOffset, flip, ksetsOf } from '../support/damage/edit.js';
import type { Overlay } from '../support/damage/overlay.js';

let bases: Map<BaseName, Base>;
beforeAll(async () => {
  bases = await loadBases();
});

function judge(name: BaseName, damage: (image: Overlay) => void = () => undefined): GateVerdict {
  const device = bases.get(name)!.device.clone();
  damage(device);
  return judgeCache(device, shapeOf(name));
}

const cutLog = (image: Overlay): void => flip(image, deviceOffset(ksetsOf(image).places[4]));

describe('the gate', () => {
  it.each(BASE_NAMES)('lets a sound cache pass, for every kernel: %s', (name) => {
    const verdict = judge(name);
    expect([verdict.sound, verdict.losses, verdict.doubts]).toEqual([true, [], []]);
    for (const kernel of KERNELS) expect(verdict.kernels[kernel].effect).toBe('attaches');
    expect(() => refuseLosses('x', verdict)).not.toThrow();
    expect(() => refuseKernel('x', verdict, '7.2')).not.toThrow();
  });

  it('refuses a log that is cut short, and says that every kernel cuts it too', () => {
    const verdict = judge('dirty-crc', cutLog);
    expect(verdict.losses.map(({ code }) => code)).toEqual(['LOG_CUT_SHORT']);
    for (const kernel of KERNELS) expect(verdict.kernels[kernel].effect).toBe('cuts');
    expect(() => refuseLosses('x', verdict)).toThrow(PcacheError);
    expect(() => refuseLosses('x', verdict)).toThrow(
      /^x: dirty data may be lost or old: LOG_CUT_SHORT .* --accept-loss$/,
    );
  });

  it('reads no payload', () => {
    expect(judge('dirty-crc').check.examined.payloadBytes).toBe(0);
  });

  it.each([
    ['a wiped superblock', (image: Overlay) => image.zero(4096, 4096), 'SUPERBLOCK_ZERO_MAGIC'],
    ['a lost cache_info', (image: Overlay) => image.zero(8192, 8192), 'CACHE_INFO_LOST'],
    [
      'INIT_DONE cleared',
      (image: Overlay) => changeCacheInfo(image, (info) => ({ ...info, flags: info.flags & ~2 })),
      'CACHE_INFO_NOT_INITIALISED',
    ],
  ] as const)('says that every kernel empties a cache with %s', (_what, damage, code) => {
    const verdict = judge('dirty-crc', damage);
    for (const kernel of KERNELS) {
      expect(verdict.kernels[kernel]).toMatchObject({ effect: 'empties' });
      expect(verdict.kernels[kernel].findings[0].code).toBe(code);
    }
    expect(() => refuseKernel('x', verdict, '7.3')).toThrow(/Linux 7\.3 would make a new cache over it/);
  });

  it('says that a kernel refuses before it empties, where it meets the superblock first', () => {
    const verdict = judge('dirty-crc', (image) => {
      image.zero(8192, 8192);
      flip(image, 4096 + 16);
    });
    expect(verdict.kernels['7.2']).toMatchObject({ effect: 'refuses' });
    expect(kernelText('x', verdict.kernels['7.2'])).toMatch(/^x: Linux 7\.2 refuses to attach it: SUPERBLOCK_BAD_CRC/);
  });

  it('takes a torn end of the log for a doubt', () => {
    const verdict = judge('gc-wrap', (image) => flip(image, deviceOffset(ksetsOf(image).places.at(-1)!) + 40));
    expect(verdict.losses).toEqual([]);
    expect(verdict.doubts.map(({ code }) => code)).toEqual(['LOG_END_TORN']);
  });
});

describe('the consequences of a finding', () => {
  it('agree with the catalogue on what a kernel refuses, and are harmless for notes', () => {
    for (const code of Object.keys(CATALOGUE) as FindingCode[]) {
      const { kernelRefuses, severity } = CATALOGUE[code];
      expect([code, kernelEffect(code, '7.2') === 'refuses']).toEqual([code, kernelRefuses]);
      if (severity !== 'note') continue;
      expect([code, dirtyRisk(code), ...KERNELS.map((kernel) => kernelEffect(code, kernel))]).toEqual([
        code,
        'none',
        ...KERNELS.map(() => 'attaches'),
      ]);
    }
  });
});
