/**
 * What one simulated life consists of: the devices, the clock, the model and its judges; and how a cache is
 * opened on it and drained.
 */
import { bestCrc32c } from '../../src/engine/device/native.js';
import { SECTOR_BYTES } from '../../src/engine/media/geometry.js';
import type { Random } from '../../src/engine/sim/random.js';
import { SimBacking } from '../../src/engine/sim/sim-backing.js';
import { SimClock } from '../../src/engine/sim/sim-clock.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { Model, SimFailure } from './model.js';
import { Corruption } from './sim-corruption.js';
import { geometryOf, makeDevice } from './sim-device.js';
import type { SimConfig } from './sim-plan.js';
import { Verifier } from './sim-verify.js';
import { Views } from './sim-views.js';
import { NOT_A_STAMP, readStamp, stamp, wordsOf } from './stamps.js';
import { InspectedCache } from './inspected-cache.js';

/** More turns than any plan needs to come to rest: beyond it the engine is stuck. */
export const TURNS_MAX = 100_000;

export class SimWorld {
  readonly model: Model;
  readonly pmem: SimPmem;
  readonly backing: SimBacking;
  readonly clock = new SimClock();
  /** The cache device's memory. */
  readonly words: Int32Array;
  readonly corruption: Corruption;
  readonly verifier: Verifier;
  readonly views: Views;
  /** Writes must be on the backing device before they are acknowledged. */
  readonly isThrough: boolean;

  constructor(readonly config: SimConfig) {
    const geometry = geometryOf(config);
    const { mode } = config;
    this.isThrough = mode === 'writethrough' || mode === 'writearound';
    this.model = new Model(config.sectors);
    this.pmem = makeDevice(config);
    this.words = wordsOf(this.pmem.bytes);
    this.backing = new SimBacking({
      sizeBytes: config.sectors * SECTOR_BYTES,
      initial: (sector, target, at) => stamp(wordsOf(target), at >>> 2, sector, 0),
      tagOf: (sector, bytes, at) => this.tagOf(sector, bytes, at),
      // What a cache does not hold it cannot write again.
      keepsOnFailedFlush: mode === 'writearound' || config.punches,
    });
    this.corruption = new Corruption(geometry, this.pmem, this.backing, this.model);
    this.verifier = new Verifier(geometry, this.model, this.corruption);
    this.views = new Views(this.model, this.pmem, this.backing, geometry, this.corruption, (device) =>
      this.verifier.load(device, false),
    );
  }

  private tagOf(sector: number, bytes: Uint8Array, at: number): number {
    const id = readStamp(wordsOf(bytes), at >>> 2, sector);
    if (id === NOT_A_STAMP && this.corruption.isAny)
      throw new SimFailure(`corrupt payload goes to the backing device, sector ${sector}`);
    return id;
  }

  open(pmem: SimPmem, backing: SimBacking, slots: number): InspectedCache {
    const { config, clock } = this;
    return new InspectedCache({
      pmem,
      backing,
      clock,
      geometry: geometryOf(config),
      slots,
      crc: bestCrc32c(),
      verifyReads: config.verifyReads,
      punches: config.punches,
      checkPayload: !this.corruption.isAny,
    });
  }

  /** Writes everything back that can be, without errors. */
  drain(cache: InspectedCache, backing: SimBacking, random: Random): void {
    const { clock } = this;
    cache.hurryWriteback = true;
    for (let turn = 0; turn < TURNS_MAX; turn++) {
      cache.requestClose();
      if (cache.step()) continue;
      if (cache.failure) throw cache.failure;
      if (backing.underWay > 0) backing.finish(random.below(backing.underWay));
      else if (cache.isClean) return;
      else if (cache.nextDeadlineMs < Infinity) clock.advance(Math.max(1, cache.nextDeadlineMs - clock.nowMs()));
      else if (this.corruption.isAny && cache.isWritebackHopeless) return;
      else throw new SimFailure(`the drain is stuck: ${cache.writebackError?.message ?? cache.status().line}`);
    }
    throw new SimFailure(`the drain does not end: ${cache.status().line}`);
  }
}
