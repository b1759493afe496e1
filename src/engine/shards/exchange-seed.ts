/** What the threads of a cache need to send one another requests (`exchange.ts`), and the messages between them. */
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import type { ErrorNote } from '../errors.js';
import { makeLaneMemory, type LaneMemory } from './lane.js';
import { LINE_WORDS } from './shared-state.js';

/** What a thread needs to exchange requests; send it with `ports` transferred. */
export interface ExchangeSeed {
  readonly thread: number;
  /** By thread; the own one has neither lane nor port. */
  readonly to: readonly (LaneMemory | undefined)[];
  readonly from: readonly (LaneMemory | undefined)[];
  readonly ports: readonly (MessagePort | undefined)[];
  /** By thread, a cache line each: 1 while it sleeps. */
  readonly asleep: Int32Array;
}

/** One seed for each thread of a cache. */
export function makeExchangeSeeds(threads: number): readonly ExchangeSeed[] {
  const all = Array.from({ length: threads }, (_, n) => n);
  const asleep = new Int32Array(new SharedArrayBuffer(4 * LINE_WORDS * threads));
  const lanes = all.map((from) => all.map((to) => (from === to ? undefined : makeLaneMemory())));
  const ports = all.map(() => all.map((): MessagePort | undefined => undefined));
  for (const one of all) {
    for (const other of all.slice(one + 1)) {
      const { port1, port2 } = new MessageChannel();
      ports[one][other] = port1;
      ports[other][one] = port2;
    }
  }
  return all.map((thread) => ({
    thread,
    to: lanes[thread],
    from: lanes.map((ofThread) => ofThread[thread]),
    ports: ports[thread],
    asleep,
  }));
}

/** Between two threads, beside their lanes. */
export type PeerMessage =
  | { readonly kind: 'wake' }
  | { readonly kind: 'arena'; readonly arena: number; readonly memory: Uint8Array }
  | { readonly kind: 'forget'; readonly arena: number }
  /** Why the request of a row of the lane to the receiver of this failed. */
  | { readonly kind: 'error'; readonly row: number; readonly error: ErrorNote }
  | { readonly kind: 'question'; readonly id: number; readonly question: unknown }
  | { readonly kind: 'answer'; readonly id: number; readonly answer: unknown };
