/**
 * The log of a cache that threads share. Open ksets belong to one thread. Closing a kset takes the lock, goes on at the
 * current end of the log, and publishes the new end. The CRC is computed before; all stores and barriers are made under
 * the lock, so a kset is persisted before any thread can write the next one behind it.
 */
import type { Clock } from '../clock.js';
import type { Pmem } from '../device/pmem.js';
import { LogWriter, type OpenKset } from '../log/log-writer.js';
import type { Position } from '../media/codecs.js';
import type { Crc32c } from '../media/crc32c.js';
import type { PayloadCrcs } from '../space/payload-crcs.js';
import type { SegmentTable } from '../space/segment-table.js';
import { LogField, type SharedState } from './shared-state.js';

export class SharedLog extends LogWriter {
  /** Number of ksets that this thread has written. */
  closedHere = 0;
  private readonly state: SharedState;

  constructor(
    state: SharedState,
    pmem: Pmem,
    segments: SegmentTable,
    head: Position,
    slotCount: number,
    crc: Crc32c,
    clock: Clock,
    payloadCrcs?: PayloadCrcs,
  ) {
    super(pmem, segments, head, slotCount, crc, clock, payloadCrcs);
    this.state = state;
  }

  /** Publishes the end of the log. Called once, by the thread that opened the cache. */
  publish(): void {
    this.state.lock.run(() => this.store());
  }

  /** Takes over the end of the log as last published. */
  refresh(): void {
    this.state.lock.run(() => this.load());
  }

  protected override write(kset: OpenKset, lengthBytes: number): boolean {
    const written = this.state.lock.run(() => {
      this.load();
      const hasRoom = super.write(kset, lengthBytes);
      this.store();
      return hasRoom;
    });
    if (written) this.closedHere++;
    return written;
  }

  private load(): void {
    const log = this.state.logHead;
    this.headSegment = log[LogField.segment];
    this.headOffsetBytes = log[LogField.offsetBytes];
    this.ksetsClosed = log[LogField.ksetsClosed];
    this.keysLogged = log[LogField.keysLogged];
  }

  private store(): void {
    const log = this.state.logHead;
    log[LogField.segment] = this.headSegment;
    log[LogField.offsetBytes] = this.headOffsetBytes;
    log[LogField.ksetsClosed] = this.ksetsClosed;
    log[LogField.keysLogged] = this.keysLogged;
  }
}
