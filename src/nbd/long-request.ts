/**
 * A request that is too long for one piece: a long read, WRITE_ZEROES, CACHE. It is done piece by piece, few at
 * a time, so that neither memory nor the other clients suffer; its connection parses nothing else meanwhile.
 *
 * The data of a simple reply follow its header in order and without anything in between: such a read waits
 * until it is alone, and its pieces go one by one.
 */
import { Op, RequestFlag } from '../engine/index.js';
import { ZEROES_BYTES, ZEROES_OFFSET_BYTES } from './memory.js';
import { NO_WINDOW, type Batch, type BatchPool, type Ops } from './ops.js';
import { Command } from './protocol.js';
import type { ReplyRing } from './reply-ring.js';

const PIECE_BYTES = 1024 * 1024;
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

  constructor(
    private readonly context: LongContext,
    private readonly op: number,
    private readonly command: number,
    private readonly isFua: boolean,
    private offsetBytes: number,
    private leftBytes: number,
  ) {
    context.ops.parts[op] = 1; // until all of it has gone to the store
  }

  /** All of it has ended. */
  get isOver(): boolean {
    return this.leftBytes === 0 && this.underWay === 0;
  }

  private get isSimpleRead(): boolean {
    return this.command === Command.read && !this.context.isStructured;
  }

  /** No further piece is begun: nobody waits for it any more, or it has failed. */
  giveUp(): void {
    if (this.leftBytes === 0) return;
    this.leftBytes = 0;
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
    return this.isOver;
  }

  /** Begins the next piece. @returns its bytes; 0 when there is no room for it now. */
  private piece(): number {
    const { ops, ring, batches, submit, readHeaderBytes, isStructured } = this.context;
    const { op, command, offsetBytes } = this;
    const isZeroes = command === Command.writeZeroes;
    const length = Math.min(this.leftBytes, isZeroes ? ZEROES_BYTES : PIECE_BYTES);
    const header = command === Command.read && (isStructured || this.isFirst) ? readHeaderBytes : 0;
    const region = isZeroes ? -1 : ring.take(header + length);
    if (!isZeroes && region < 0) return 0;
    const batch = batches.take();
    if (batch === undefined) {
      if (region >= 0) ring.release(region);
      return 0;
    }
    const { group } = batch;
    const i = isZeroes
      ? group.add(Op.write, offsetBytes, length, ZEROES_OFFSET_BYTES, this.isFua ? RequestFlag.fua : 0)
      : group.add(Op.read, offsetBytes, length, ring.startOf(region) + header);
    batch.op[i] = op;
    batch.region[i] = Math.max(region, 0);
    batch.window[i] = NO_WINDOW;
    this.isFirst = false;
    this.underWay++;
    this.offsetBytes += length;
    this.leftBytes -= length;
    if (this.leftBytes > 0) ops.parts[op]++;
    submit(batch);
    return length;
  }

  private waitForTurn(): void {
    this.isWaitingForTurn = true;
    this.context.later(() => {
      this.isWaitingForTurn = false;
    });
  }
}
