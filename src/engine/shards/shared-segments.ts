/**
 * The segment table over shared memory. The coordinator's table frees segments; each shard's table takes them.
 * `takeForData` takes the lock; `takeForLog` is called by `SharedLog`, which holds it.
 *
 * A segment that lost its last reference first gets a new generation. It is free only when every shard has been outside
 * the request path since: a shard that looked at its index before may still be reading the payload that it found.
 */
import { assert } from '../errors.js';
import type { Geometry } from '../media/geometry.js';
import type { SegmentChain } from '../media/metadata.js';
import { SegmentTable } from '../space/segment-table.js';
import { Word, type SharedState } from './shared-state.js';

/** The coordinator's table. It also counts the references of the log at the open. */
export class SharedSegments extends SegmentTable {
  constructor(
    geometry: Geometry,
    chain: SegmentChain,
    protected readonly state: SharedState,
  ) {
    super(geometry, chain, state.memory.columns);
  }

  override takeForData(references: number): number {
    return this.counted(this.state.lock.run(() => super.takeForData(references)));
  }
  override takeForLog(): number {
    return this.counted(super.takeForLog());
  }
  private counted(segment: number): number {
    if (segment >= 0) this.state.add(Word.taken, 1);
    return segment;
  }

  override put(segment: number, references = 1): void {
    if (this.dropped(segment, references)) this.dead.push(segment);
  }

  /** Drops references. @returns whether that was the last one of a segment that is not in the log */
  protected dropped(segment: number, references: number): boolean {
    const before = this.state.dropReferences(segment, references);
    assert(before >= references, 'a segment reference is dropped twice');
    return before === references && this.inLog[segment] === 0;
  }

  /** Takes over the segments whose last reference a shard dropped; `retire()` frees them. */
  takeOrphans(): void {
    this.state.takeOrphans((segment) => this.dead.push(segment));
  }

  override freeLogSegment(segment: number): void {
    this.state.lock.run(() => {
      this.inLog[segment] = 0;
      if (this.references[segment] === 0) super.free(segment);
    });
    this.state.add(Word.freed, 1);
  }

  protected override free(segment: number): void {
    this.state.awaitOutside();
    this.state.lock.run(() => super.free(segment));
    this.state.add(Word.freed, 1);
  }
}

/** A shard's table. The coordinator has counted the references of the log before. */
export class ShardSegments extends SharedSegments {
  override markUsed(): void {}
  override markInLog(): void {}
  override get(): void {}

  override put(segment: number, references = 1): void {
    if (this.dropped(segment, references)) this.state.addOrphan(segment);
  }
}
