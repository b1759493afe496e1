/**
 * The oracle for the modes that write through (writethrough, writearound): the cache device may be thrown away
 * at any time. What is acknowledged is on the backing device, and durable there when a FLUSH or FUA says so;
 * nothing older comes back there later. Not once payload has gone bad: dirty_tail stays where it is then, and
 * whoever opens the cache again writes everything behind it again, older versions first.
 */
import { SimFailure, type Model } from './model.js';
import type { SimWorld } from './sim-world.js';

export class ThroughOracle {
  private readonly model: Model;

  constructor(private readonly world: SimWorld) {
    this.model = world.model;
  }

  private get isOff(): boolean {
    return this.world.corruption.isAny;
  }

  /** A write of these sectors has just been acknowledged. */
  acknowledged(sector: number, sectors: number): void {
    if (this.isOff) return;
    for (let s = sector; s < sector + sectors; s++) this.expectCurrent(s);
  }

  /** What is acknowledged is on the backing device, though it may be lost there. Linear in what was ever written. */
  expectAllCurrent(): void {
    if (this.isOff) return;
    for (const sector of this.model.written) if (this.model.isAcknowledged(sector)) this.expectCurrent(sector);
  }

  private expectCurrent(sector: number): void {
    const id = this.world.backing.newest(sector)?.tag ?? 0;
    if (this.model.isCurrent(sector, id)) return;
    throw new SimFailure(`acknowledged, and the backing device does not have it: ${this.model.describe(sector, id)}`);
  }

  /** A crash now that takes the cache device with it leaves all that was promised. */
  expectPromised(): void {
    if (this.isOff) return;
    const { views, backing } = this.world;
    views.eachSuspect((sector, id) => this.expectOwed(sector, id));
    backing.eachVolatile(
      () => false,
      (sector, id) => {
        if (!this.model.maySurvive(sector, id)) this.expectOwed(sector, id);
      },
    );
  }

  /** What was in the cache when this life began is owed from the first FLUSH on. */
  private expectOwed(sector: number, id: number): void {
    const { model } = this;
    if (!model.isPromised(sector)) return;
    throw new SimFailure(`without the cache, a crash loses what was promised: ${model.describe(sector, id)}`);
  }
}
