/**
 * Looks at what crashes would leave at any one moment of a simulated life, and takes it all back: every state
 * is judged, some are recovered from scratch, a few are opened and written back.
 */
import { CACHE_INFO_BYTES, POSITION_BYTES } from '../../src/engine/media/codecs.js';
import { structCrc } from '../../src/engine/media/crc32c.js';
import {
  CACHE_INFO_COPIES,
  DIRTY_TAIL_COPIES,
  generationCopies,
  KEY_TAIL_COPIES,
  segmentInfoCopies,
} from '../../src/engine/media/geometry.js';
import { bestCrc32c } from '../../src/engine/device/native.js';
import type { Random } from '../../src/engine/sim/random.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { checkCache } from '../../src/fsck/check.js';
import type { Finding } from '../../src/fsck/findings.js';
import { SimFailure } from './model.js';
import { geometryOf } from './sim-device.js';
import type { ThroughOracle } from './sim-through.js';
import type { SimWorld } from './sim-world.js';
import { wordsOf } from './stamps.js';

/** Crash states looked at per barrier, at most. */
const STATES_PER_BARRIER_MAX = 2;
/** Of so many crash states one is recovered from scratch, every word looked at and every payload CRC. */
const THOROUGH_EVERY = 32;
const DRAIN_EVERY = 200;
/** Codes of fsck for payload that does not match its CRC. */
const CORRUPT_CODES: readonly string[] = ['PAYLOAD_CRC_CURRENT', 'PAYLOAD_CRC_STALE'];

export interface Explored {
  crashStates: number;
  drains: number;
}

export class Explorer {
  readonly result: Explored = { crashStates: 0, drains: 0 };

  /** @param losesCopies each crash state also costs one copy of one dual structure. */
  constructor(
    private readonly world: SimWorld,
    private readonly through: ThroughOracle | undefined,
    private readonly losesCopies: boolean,
  ) {}

  /** Looks at what crashes at this moment would leave. */
  explore(random: Random): void {
    const { pmem, views, verifier, backing, words } = this.world;
    const states = pmem.pendingBytes === 0 ? 1 : random.between(1, STATES_PER_BARRIER_MAX);
    this.through?.expectPromised();
    for (let n = 0; n < states; n++) {
      const count = ++this.result.crashStates;
      pmem.withCrash(random, (device) => {
        if (this.losesCopies) {
          this.checkWithoutCopy(random, count % THOROUGH_EVERY === 0);
          return;
        }
        views.judge();
        verifier.checkRecorded(device, backing);
        if (count % THOROUGH_EVERY === 0) {
          views.expectToEqual(verifier.check(device, words, backing, true));
        }
        if (random.below(DRAIN_EVERY) === 0) this.recoverAndDrain(random);
      });
    }
  }

  /** As a crash state, and one copy of some dual structure is damaged besides. */
  private checkWithoutCopy(random: Random, thorough: boolean): void {
    const { pmem, verifier, config, words, backing } = this.world;
    const geometry = geometryOf(config);
    const segment = random.below(config.segments);
    const structures = [
      CACHE_INFO_COPIES,
      KEY_TAIL_COPIES,
      DIRTY_TAIL_COPIES,
      segmentInfoCopies(geometry, segment),
      generationCopies(geometry, segment),
    ];
    const copies = random.pick(structures);
    // A copy that is torn already is the one that is lost: the other is good.
    const at = copies[random.below(2)] + 8;
    const other = at === copies[0] + 8 ? copies[1] : copies[0];
    if (!hasGoodCopyAt(pmem, other, copies === CACHE_INFO_COPIES ? CACHE_INFO_BYTES : POSITION_BYTES)) return;
    pmem.bytes[at] ^= 0x11;
    try {
      verifier.check(pmem, words, backing, thorough);
    } finally {
      pmem.bytes[at] ^= 0x11;
    }
  }

  /** Recovers copies of both devices for good, and writes everything back. */
  private recoverAndDrain(random: Random): void {
    this.result.drains++;
    const { world } = this;
    const pmem = world.pmem.copy();
    const backing = world.backing.copyCrashed(random);
    this.expectClean(pmem, 'after a crash');
    const loaded = world.verifier.load(pmem, !world.corruption.isAny);
    const expected = world.verifier.contents(loaded, wordsOf(pmem.bytes), backing);
    const cache = world.open(pmem, backing, random.between(1, 3));
    world.drain(cache, backing, random);
    cache.check();
    this.expectClean(pmem, 'after recovery and drain');
    for (const [sector, id] of expected) {
      const found = backing.durableTag(sector);
      if (found === id || world.corruption.excuses(sector, id)) continue;
      throw new SimFailure(
        `draining after a crash changed what was recovered, from ${id}: ${world.model.describe(sector, found)}`,
      );
    }
  }

  /**
   * A crash may tear the copy that was being written, or the kset at the end of the log: warnings, since
   * nothing counts on them. Opening puts them right. On an aged device old ksets lie behind the log's end.
   */
  private expectClean(pmem: SimPmem, when: 'after a crash' | 'after recovery and drain'): void {
    const { config, backing, corruption } = this.world;
    const { findings } = checkCache(pmem, {
      geometry: geometryOf(config),
      backingBytes: backing.sizeBytes,
      data: true,
      crc: bestCrc32c(),
    });
    const harmless = (finding: Finding) => finding.severity === 'warning' && !finding.kernelRefuses;
    const known = (finding: Finding) => corruption.isAny && CORRUPT_CODES.includes(finding.code);
    // A crash before the first kset was closed leaves payload without a log; the model tells whether that may be.
    const isUnlogged = (finding: Finding) => finding.code === 'LOG_LOST';
    const isLeftover = (finding: Finding) =>
      isUnlogged(finding) || (config.aged && finding.code === 'LOG_MAYBE_CUT_SHORT');
    const worst = findings.find(
      (finding) =>
        finding.severity !== 'note' &&
        !known(finding) &&
        !isLeftover(finding) &&
        !(when === 'after a crash' && harmless(finding)),
    );
    if (worst) throw new SimFailure(`fsck ${when}: ${worst.code} at ${worst.where}: ${worst.detail}`);
    if (corruption.isAny && corruption.isInLogOf(pmem) && !findings.some(known))
      throw new SimFailure(`fsck ${when} does not see the bad payload`);
  }
}

function hasGoodCopyAt(pmem: SimPmem, offset: number, lengthBytes: number): boolean {
  const crcStored = new DataView(pmem.bytes.buffer).getUint32(offset, true);
  return crcStored === structCrc(pmem.bytes, offset, lengthBytes);
}
