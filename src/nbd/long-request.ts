/**
 * A request that is too long for one piece: a long read, TRIM, WRITE_ZEROES, CACHE. It is done piece by piece, few at
 * a time, so that neither memory nor the other clients suffer; its connection parses nothing else meanwhile.
 *
 * The pieces of a TRIM or WRITE_ZEROES with FUA are made durable together, by a flush at the end.
 *
 * The data of a simple reply follow its header in order and without anything in between: such a read waits
 * until it is alone, and its pieces go one by one.
 */
import { Op, RequestFlag } from '../engine/index.js';
import { NO_WINDOW, type Batch, type BatchPool, type Ops } from './ops.js';
import { Command, CommandFlag } from './protocol.js';
import type { ReplyRing } from './reply-ring.js';

const PIECE_BYTES = 1024 * 1024;
/** Zeroes may have to be written into the cache; a TRIM writes nothing there. */
const ZEROES_PIECE_BYTES = 8 * 1024 * 1024;
const TRIM_PIECE_BYTES = 128 * 1024 * 1024;
const PIECES_UNDER_WAY = 4;
/** Bytes before the event loop gets its turn. */
const BYTES_PER_TURN = 4 * 1024 * 1024;

export interface LongContext {
  readonly ops: Ops;
  readonly ring: ReplyRing;
  readonly batches: BatchPool;
  readonly submit: (batch: Batch) => void;
  /** Answers the request, when its last part ended before that was known to be the last. */
  readonly end: (op: number) => void;
  /** Calls `go`, and then has `step` called again, after other things. */
  readonly later: (go: () => void) => void;
  readonly readHeaderBytes: number;
  readonly isStructured: boolean;
}

export class LongRequest {
  private underWay = 0;
  private isFirst = true;
  private isWaitingForTurn = false;
  /** All pieces have to be flushed when they have ended. */
  private needsFlush: boolean;

  /** @param flags those of the client's request */
  constructor(
    private readonly context: LongContext,
    private readonly op: number,
    private readonly command: number,
    private readonly flags: number,
    private offsetBytes: number,
    private leftBytes: number,
  ) {
    context.ops.parts[op] = 1; // until all of it has gone to the store
    this.needsFlush = this.hasNoPayload && (flags & CommandFlag.fua) !== 0;
  }

  private get hasNoPayload(): boolean {
    return this.command === Command.trim || this.command === Command.writeZeroes;
  }

  /** All of it has ended. */
  get isOver(): boolean {
    return this.leftBytes === 0 && this.underWay === 0 && !this.needsFlush;
  }

  private get isSimpleRead(): boolean {
    return this.command === Command.read && !this.context.isStructured;
  }

  /** No further piece is begun: nobody waits for it any more, or it has failed. */
  giveUp(): void {
    if (this.leftBytes === 0 && !this.needsFlush) return;
    this.leftBytes = 0;
    this.needsFlush = false;
    if (--this.context.ops.parts[this.op] === 0) this.context.end(this.op);
  }

  /** A part of request `op` has ended. */
  partEnded(op: number): void {
    if (op === this.op) this.underWay--;
  }

  /** Gives pieces to the store. @returns whether all of it has ended. */
  step(): boolean {
    const { ops } = this.context;
    const { isSimpleRead } = this;
    if (this.isWaitingForTurn || (isSimpleRead && ops.inUse > 1)) return false;
    // The chunks of a structured read each say how they went; anything else has failed as a whole.
    const endsOnError = isSimpleRead || this.command !== Command.read;
    const atOnce = isSimpleRead ? 1 : PIECES_UNDER_WAY;
    let budgetBytes = BYTES_PER_TURN;
    while (this.leftBytes > 0 && this.underWay < atOnce) {
      if (endsOnError && ops.error[this.op] !== 0) {
        this.giveUp();
      } else if (budgetBytes <= 0) {
        this.waitForTurn();
        return false;
      } else {
        const bytes = this.piece();
        if (bytes === 0) return false;
        budgetBytes -= bytes;
      }
    }
    if (this.needsFlush && this.leftBytes === 0 && this.underWay === 0) {
      if (ops.error[this.op] !== 0) this.giveUp();
      else this.flush();
    }
    return this.isOver;
  }

  /** Begins the next piece. @returns its bytes; 0 when there is no room for it now. */
  private piece(): number {
    const { ring, batches, readHeaderBytes, isStructured } = this.context;
    const { command, offsetBytes } = this;
    if (this.hasNoPayload) return this.pieceWithoutPayload();
    const length = Math.min(this.leftBytes, PIECE_BYTES);
    const header = command === Command.read && (isStructured || this.isFirst) ? readHeaderBytes : 0;
    const region = ring.take(header + length);
    if (region < 0) return 0;
    const batch = batches.take();
    if (batch === undefined) {
      ring.release(region);
      return 0;
    }
    const i = batch.group.add(Op.read, offsetBytes, length, ring.startOf(region) + header);
    batch.region[i] = region;
    this.isFirst = false;
    this.begin(batch, i, length);
    return length;
  }

  /** As `piece`, for TRIM and WRITE_ZEROES. */
  private pieceWithoutPayload(): number {
    const { command, flags, offsetBytes, leftBytes } = this;
    const isTrim = command === Command.trim;
    const length = Math.min(leftBytes, isTrim ? TRIM_PIECE_BYTES : ZEROES_PIECE_BYTES);
    const batch = this.context.batches.take();
    if (batch === undefined) return 0;
    const keepsSpace = (flags & CommandFlag.noHole) !== 0 ? RequestFlag.keepsSpace : 0;
    this.begin(batch, batch.group.add(isTrim ? Op.trim : Op.zero, offsetBytes, length, 0, keepsSpace), length);
    return length;
  }

  private flush(): void {
    const batch = this.context.batches.take();
    if (batch === undefined) return;
    this.needsFlush = false;
    this.begin(batch, batch.group.add(Op.flush, 0, 0, 0), 0);
  }

  /** Submits request `i` of a batch, which is the next part. */
  private begin(batch: Batch, i: number, lengthBytes: number): void {
    const { ops, submit } = this.context;
    const { op } = this;
    batch.op[i] = op;
    batch.window[i] = NO_WINDOW;
    this.underWay++;
    this.offsetBytes += lengthBytes;
    this.leftBytes -= lengthBytes;
    if (this.leftBytes > 0 || this.needsFlush) ops.parts[op]++;
    submit(batch);
  }

  private waitForTurn(): void {
    this.isWaitingForTurn = true;
    this.context.later(() => {
      this.isWaitingForTurn = false;
    });
  }
}
