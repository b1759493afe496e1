/**
 * The oracle: which contents of which sector are legal when. Every write has an id, the tick when it was
 * submitted and the tick when it ended (acknowledged or failed; infinite while under way).
 *
 * A write is superseded by another that was submitted after the first had ended and has been acknowledged
 * itself. A read may return anything that was not superseded when the read was submitted; a crash may leave
 * anything that is not superseded by a durable write. So a floor per sector says it all: the latest
 * submission among its acknowledged (or durable) writes, and a version is legal if it ended at or after it.
 *
 * Zeroes do not say which request wrote them: they are legal if any request for zeroes makes them so. TRIM is one that may
 * have had its effect or not.
 *
 * A crash starts a new life: each sector then holds one certain version, its base.
 */
import { NOT_A_STAMP, ZEROES } from './stamps.js';

const UNDER_WAY = Infinity;

/** A wrong that the simulation has found. */
export class SimFailure extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'SimFailure';
  }
}

export class Model {
  /** Counts submissions and endings. */
  tick = 1;
  /** Sectors that were ever written, in the order of their first write. */
  readonly written: number[] = [];
  /**
   * Writes of this life that became durable, oldest first: what survives a crash legally changes only where
   * these are, and only to the worse.
   */
  readonly madeDurable: number[] = [];

  private lifeStart = 0;
  private hasFlushed = false;
  private readonly submitted: number[] = [0];
  private readonly ended: number[] = [0];
  private readonly firstSector: number[] = [0];
  private readonly sectorCount: number[] = [0];
  private readonly underWay = new Set<number>();
  /** Acknowledged writes of this life that are not known to be durable. */
  private loose: number[] = [];
  private readonly ackFloor: Float64Array;
  private readonly durableFloor: Float64Array;
  private readonly base: Int32Array;
  private readonly isWritten: Uint8Array;
  /** Ids of the requests for zeroes, by sector. */
  private readonly zeroIds = new Map<number, number[]>();

  constructor(readonly sectors: number) {
    this.ackFloor = new Float64Array(sectors);
    this.durableFloor = new Float64Array(sectors);
    this.base = new Int32Array(sectors);
    this.isWritten = new Uint8Array(sectors);
  }

  // ---- what happens -----------------------------------------------------------------------------------

  /** A write is submitted. @returns its id */
  submitWrite(sector: number, sectors: number): number {
    const id = this.submitted.length;
    this.submitted.push(++this.tick);
    this.ended.push(UNDER_WAY);
    this.underWay.add(id);
    this.firstSector.push(sector);
    this.sectorCount.push(sectors);
    for (let s = sector; s < sector + sectors; s++) {
      if (this.isWritten[s]) continue;
      this.isWritten[s] = 1;
      this.written.push(s);
    }
    return id;
  }

  /** A request for zeroes is submitted. @returns its id */
  submitZeroes(sector: number, sectors: number): number {
    const id = this.submitWrite(sector, sectors);
    for (let s = sector; s < sector + sectors; s++) {
      const ids = this.zeroIds.get(s);
      if (ids) ids.push(id);
      else this.zeroIds.set(s, [id]);
    }
    return id;
  }

  /** A read or flush is submitted. @returns the tick, for `flushed` */
  submit(): number {
    return ++this.tick;
  }

  acknowledge(id: number, durable: boolean): void {
    this.end(id);
    this.raise(this.ackFloor, id);
    if (durable) this.becomeDurable(id);
    else this.loose.push(id);
  }

  /** A failed write has had its effect, whole, in part or not at all, and will have none any more. */
  fail(id: number): void {
    this.end(id);
  }

  private end(id: number): void {
    this.ended[id] = ++this.tick;
    this.underWay.delete(id);
  }

  /** A flush that was submitted at `tick` is acknowledged: what was acknowledged before it is durable. */
  flushed(tick: number): void {
    const stillLoose: number[] = [];
    for (const id of this.loose) {
      if (this.ended[id] <= tick) this.becomeDurable(id);
      else stillLoose.push(id);
    }
    this.loose = stillLoose;
    this.hasFlushed = true;
    this.tick++;
  }

  /** A new life, in which each written sector holds what `baseOf` says. */
  restart(baseOf: (sector: number) => number): void {
    this.lifeStart = ++this.tick;
    this.hasFlushed = false;
    for (const id of this.underWay) this.ended[id] = this.tick;
    this.underWay.clear();
    this.loose = [];
    this.madeDurable.length = 0;
    for (const sector of this.written) {
      this.base[sector] = baseOf(sector);
      this.ackFloor[sector] = 0;
      this.durableFloor[sector] = 0;
    }
  }

  private becomeDurable(id: number): void {
    this.raise(this.durableFloor, id);
    this.madeDurable.push(id);
  }

  /**
   * The process that ran the cache ends at once, and the devices stay as they are: whatever is not promised to be
   * durable may be gone.
   */
  kill(): void {
    for (const id of [...this.underWay]) this.end(id);
    this.loose = [];
    for (const sector of this.written) this.ackFloor[sector] = this.durableFloor[sector];
  }

  private raise(floor: Float64Array, id: number): void {
    const submitted = this.submitted[id];
    const end = this.endOf(id);
    for (let s = this.firstSector[id]; s < end; s++) if (submitted > floor[s]) floor[s] = submitted;
  }

  /** First sector of write `id`. */
  startOf(id: number): number {
    return this.firstSector[id];
  }
  /** The sector after the last of write `id`. */
  endOf(id: number): number {
    return this.firstSector[id] + this.sectorCount[id];
  }

  // ---- what is legal ----------------------------------------------------------------------------------

  /** The floor for a read that is submitted now, kept until the read ends. */
  floors(sector: number, sectors: number): Float64Array {
    return this.ackFloor.slice(sector, sector + sectors);
  }

  /** Whether a read whose floor for the sector is `floor` may return version `id`. */
  mayRead(sector: number, id: number, floor: number): boolean {
    return this.isLegal(sector, id, floor);
  }

  /** Whether a crash now may leave version `id`. */
  maySurvive(sector: number, id: number): boolean {
    return this.isLegal(sector, id, this.durableFloor[sector]);
  }

  /** Whether `id` is what the sector must hold when nothing is under way. */
  isCurrent(sector: number, id: number): boolean {
    return this.isLegal(sector, id, this.ackFloor[sector]);
  }

  /** Whether a write of the sector has been acknowledged in this life. */
  isAcknowledged(sector: number): boolean {
    return this.ackFloor[sector] > 0;
  }

  /** Whether something has been promised about the sector in this life: by its own writes, or by a FLUSH. */
  isPromised(sector: number): boolean {
    return this.hasFlushed || this.durableFloor[sector] > 0;
  }

  /** Whether version `id` was submitted after version `other`, or is that version. */
  isNotBefore(id: number, other: number): boolean {
    return id >= 0 && this.submitted[id] >= this.submitted[other];
  }

  private isLegal(sector: number, id: number, floor: number): boolean {
    if (id === this.base[sector] && floor === 0) return true;
    if (id === ZEROES) return this.zeroIds.get(sector)?.some((zeroId) => this.isLegal(sector, zeroId, floor)) ?? false;
    if (id === this.base[sector]) return false;
    if (id <= 0 || id >= this.submitted.length) return false;
    if (this.submitted[id] <= this.lifeStart || this.ended[id] < floor) return false;
    const from = this.firstSector[id];
    return sector >= from && sector < from + this.sectorCount[id];
  }

  /** What a sector may hold now, for messages. */
  describe(sector: number, id: number): string {
    const what =
      id === NOT_A_STAMP
        ? 'no version at all'
        : id === ZEROES
          ? `zeroes (requests ${(this.zeroIds.get(sector) ?? []).join(', ') || 'none'})`
          : `version ${id} (submitted ${this.submitted[id]}, ended ${this.ended[id]})`;
    return (
      `sector ${sector} holds ${what}; acknowledged floor ${this.ackFloor[sector]}, ` +
      `durable floor ${this.durableFloor[sector]}, base ${this.base[sector]}, life since ${this.lifeStart}, now ${this.tick}`
    );
  }
}
