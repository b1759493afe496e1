/**
 * The sectors that must be in the cache, whatever a crash leaves of it, as the backing device holds for certain
 * what must not survive. Kept up to date by what changes on the backing device and by what the model has become
 * stricter about, so that a crash state costs a look at these sectors only.
 */
import type { SimBacking } from '../../src/engine/sim/sim-backing.js';
import { SimFailure, type Model } from './model.js';

export class Suspects {
  private readonly list: Int32Array;
  private count = 0;
  /** Place in the list, plus 1. */
  private readonly listed: Int32Array;
  private judged = 0;
  private changed: number[] = [];

  constructor(
    private readonly model: Model,
    private readonly backing: SimBacking,
  ) {
    this.list = new Int32Array(model.sectors);
    this.listed = new Int32Array(model.sectors);
    backing.onDurable = (sector) => this.changed.push(sector);
  }

  restart(): void {
    for (let n = 0; n < this.count; n++) this.listed[this.list[n]] = 0;
    this.count = 0;
    this.judged = 0;
    this.changed.length = 0;
    for (const sector of this.model.written) this.look(sector);
  }

  /** @throws SimFailure if one is not in the cache. */
  judge(isMissing: (sector: number) => boolean): void {
    this.update();
    for (let n = 0; n < this.count; n++) {
      const sector = this.list[n];
      if (!isMissing(sector)) continue;
      throw new SimFailure(`the backing device is wrong: ${this.model.describe(sector, this.held(sector))}`);
    }
  }

  /** Calls `visit` with each, and the version that the backing device holds. */
  each(visit: (sector: number, id: number) => void): void {
    this.update();
    for (let n = 0; n < this.count; n++) visit(this.list[n], this.held(this.list[n]));
  }

  private update(): void {
    const { model, changed } = this;
    for (const sector of changed) this.look(sector);
    changed.length = 0;
    for (; this.judged < model.madeDurable.length; this.judged++) {
      const id = model.madeDurable[this.judged];
      for (let sector = model.startOf(id); sector < model.endOf(id); sector++) this.look(sector);
    }
  }

  private held(sector: number): number {
    return this.backing.durableTag(sector);
  }

  private look(sector: number): void {
    const isSuspect = !this.model.maySurvive(sector, this.held(sector));
    const at = this.listed[sector] - 1;
    if (isSuspect === at >= 0) return;
    if (isSuspect) {
      this.list[this.count++] = sector;
      this.listed[sector] = this.count;
    } else {
      const last = this.list[--this.count];
      this.list[at] = last;
      this.listed[last] = at + 1;
      this.listed[sector] = 0;
    }
  }
}
