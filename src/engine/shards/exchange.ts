/**
 * Requests between the threads of a cache. A thread that serves clients gets requests for all of the device, while each
 * shard has the request path of its subtrees only. The exchange of a thread takes such groups, gives its own shard what
 * belongs to it, sends the rest to the threads of the other shards (`lane.ts`), and ends a request when all of its parts
 * have ended. What the other threads send, it gives to its shard.
 *
 * Payload is not sent: it lies in arenas of shared memory, which every thread registers.
 *
 * A thread that has nothing to do says so in a shared word, looks once more, and sleeps. A thread that sends it something
 * wakes it.
 */
import { receiveMessageOnPort, type MessagePort } from 'node:worker_threads';
import type { Arena, Pmem } from '../device/pmem.js';
import type { CacheDriver } from '../driver.js';
import { assert, noteOf, type PcacheError } from '../errors.js';
import { SUBTREE_BYTES, subtreeOf } from '../media/geometry.js';
import { Op, RequestState, whyRefused, type EngineGroup, type RequestGroup } from '../request/request-group.js';
import type { ExchangeSeed, PeerMessage } from './exchange-seed.js';
import { Inbox } from './inbox.js';
import { Outbox } from './outbox.js';
import { OwnParts } from './own-parts.js';
import type { Shard } from './shard.js';
import { LINE_WORDS } from './shared-state.js';

export interface ExchangeOptions {
  readonly seed: ExchangeSeed;
  readonly driver: CacheDriver<Shard>;
  readonly pmem: Pmem;
  /** Size of the logical device. */
  readonly sizeBytes: number;
  /** Answers what another thread asks with `ask`. */
  readonly answer?: (question: unknown) => Promise<unknown>;
}

/** What a peer is to this thread. */
interface Peer {
  readonly thread: number;
  readonly port: MessagePort;
  readonly outbox: Outbox;
  readonly inbox: Inbox;
  readonly arenas: Map<number, Arena>;
}

export class Exchange {
  private readonly threads: number;
  private readonly own: number;
  private readonly peers: readonly (Peer | undefined)[];
  private readonly others: readonly Peer[];
  private arenaNumber = 0;
  private readonly arenaNumbers = new Map<Arena, number>();
  private readonly ownParts = new OwnParts(
    (group) => this.submitOwn(group),
    (...part) => this.partEnded(...part),
  );
  private immediate: NodeJS.Immediate | undefined;
  private isClosed = false;
  private questions = 0;
  private readonly asked = new Map<number, (answer: unknown) => void>();

  constructor(private readonly options: ExchangeOptions) {
    const { seed } = options;
    this.own = seed.thread;
    this.threads = seed.ports.length;
    this.peers = seed.ports.map((port, thread) => (port === undefined ? undefined : this.makePeer(thread, port)));
    this.others = this.peers.filter((peer) => peer !== undefined);
    for (const peer of this.others) peer.port.on('message', (message: PeerMessage) => this.heard(peer, message));
    this.kick();
  }

  private makePeer(thread: number, port: MessagePort): Peer {
    const { seed } = this.options;
    const arenas = new Map<number, Arena>();
    const tell = (message: PeerMessage) => port.postMessage(message);
    const peer: Peer = {
      thread,
      port,
      arenas,
      outbox: new Outbox(seed.to[thread]!),
      inbox: new Inbox(seed.from[thread]!, {
        arenaOf: (arena) => {
          if (!arenas.has(arena)) this.hearAll(peer); // its number was sent before its requests
          const known = arenas.get(arena);
          assert(known !== undefined, 'a request comes before its memory');
          return known;
        },
        submit: (group) => this.options.driver.cache.submit(group),
        sayFailed: (row, error) => tell({ kind: 'error', row, error: noteOf(error) }),
        onGivenBack: () => this.wake(peer),
      }),
    };
    return peer;
  }

  // ---- memory -----------------------------------------------------------------------------------------

  /** Memory for payload of requests. */
  makeArena(lengthBytes: number): Arena {
    const memory = new Uint8Array(new SharedArrayBuffer(lengthBytes));
    const arena = this.options.pmem.registerArena(memory);
    const number = ++this.arenaNumber;
    this.arenaNumbers.set(arena, number);
    for (const { port } of this.others)
      port.postMessage({ kind: 'arena', arena: number, memory } satisfies PeerMessage);
    return arena;
  }

  /** No request may be under way that uses the arena. */
  dropArena(arena: Arena): void {
    const number = this.arenaNumbers.get(arena)!;
    this.arenaNumbers.delete(arena);
    this.ownParts.forget(arena);
    this.options.pmem.unregisterArena(arena);
    for (const { port } of this.others) port.postMessage({ kind: 'forget', arena: number } satisfies PeerMessage);
  }

  // ---- requests of this thread ------------------------------------------------------------------------

  /** As `Cache.submit`, with requests of any subtree. A FLUSH covers what any thread has acknowledged. */
  submit(requests: RequestGroup): number {
    const group = requests as EngineGroup;
    if (this.isOwn(group)) return this.submitOwn(group);
    this.begin(group);
    for (let i = 0; i < group.count; i++) this.distribute(group, i);
    this.sendAll(); // first, so that they work while this thread does
    this.ownParts.send();
    group.isBeingTaken = false;
    return group.pending;
  }

  private submitOwn(group: RequestGroup): number {
    const { driver } = this.options;
    const left = driver.cache.submit(group);
    driver.kick();
    return left;
  }

  /** Whether this thread's shard can take the group as it is. */
  private isOwn(group: EngineGroup): boolean {
    if (this.threads === 1) return true;
    for (let i = 0; i < group.count; i++) {
      if (group.op[i] === Op.flush) {
        if (group.count > 1) return false; // what is beside a FLUSH need not wait for it
        continue;
      }
      const first = group.subtree[i];
      if (first % this.threads !== this.own) return false;
      if (subtreeOf(group.offsetBytes[i] + Math.max(0, group.lengthBytes[i] - 1)) !== first) return false;
    }
    return true;
  }

  private begin(group: EngineGroup): void {
    if (group.blankFrom > 0) group.blank();
    group.blankFrom = group.count;
    group.pending = group.count;
    group.isBeingTaken = true;
    group.parts.fill(0, 0, group.count);
  }

  /** Adds the parts of request `i` to what those get that have them. */
  private distribute(group: EngineGroup, i: number): void {
    const { threads, own, ownParts, peers } = this;
    const refusal = whyRefused(group, i, this.options.sizeBytes);
    group.parts[i] = 1; // until all are given
    if (group.op[i] === Op.flush) {
      group.parts[i]++;
      ownParts.addFlush(group, i);
    } else if (refusal === undefined) {
      const arena = this.arenaNumbers.get(group.arena);
      assert(arena !== undefined, 'a group is submitted whose arena other threads do not know');
      let at = group.offsetBytes[i];
      const end = at + group.lengthBytes[i];
      let arenaAt = group.arenaOffsetBytes[i];
      do {
        const subtree = subtreeOf(at);
        const length = Math.min(end, (subtree + 1) * SUBTREE_BYTES) - at;
        const thread = subtree % threads;
        group.parts[i]++;
        if (thread === own) ownParts.add(group, i, at, length, arenaAt);
        else peers[thread]!.outbox.add(arena, group, i, at, length, arenaAt);
        at += length;
        arenaAt += length;
      } while (at < end);
    }
    this.partEnded(group, i, refusal, 0);
  }

  private readonly partEnded = (
    requests: RequestGroup,
    i: number,
    error: PcacheError | undefined,
    missBytes: number,
  ): void => {
    const group = requests as EngineGroup;
    group.missBytes[i] += missBytes;
    if (error !== undefined) group.errors[i] ??= error;
    if (--group.parts[i] > 0) return;
    group.state[i] = group.errors[i] === undefined ? RequestState.done : RequestState.failed;
    group.pending--;
    if (!group.isBeingTaken) group.onRequestDone?.(group, i);
  };

  // ---- the other threads ------------------------------------------------------------------------------

  /** Sends what was added for other threads. */
  private sendAll(): void {
    for (const peer of this.others) if (peer.outbox.send()) this.wake(peer);
  }

  private wake({ thread, port }: Peer): void {
    const { asleep } = this.options.seed;
    const at = thread * LINE_WORDS;
    if (Atomics.load(asleep, at) === 1 && Atomics.exchange(asleep, at, 0) === 1) {
      port.postMessage({ kind: 'wake' } satisfies PeerMessage);
    }
  }

  private kick(): void {
    if (this.isClosed) return;
    this.immediate ??= setImmediate(() => {
      this.immediate = undefined;
      this.turn();
    });
  }

  private turn(): void {
    const { asleep } = this.options.seed;
    const at = this.own * LINE_WORDS;
    if (this.look()) {
      this.kick();
      return;
    }
    Atomics.store(asleep, at, 1);
    // What came before a sender could see that this thread sleeps.
    if (this.look() && Atomics.exchange(asleep, at, 0) === 1) this.kick();
  }

  /** Takes in what has come, and sends what there is to send. @returns whether there was anything */
  private look(): boolean {
    const { driver } = this.options;
    let worked = false;
    for (const peer of this.others) {
      if (peer.inbox.take()) {
        worked = true;
        this.wake(peer);
        driver.kick();
      }
      if (peer.outbox.takeBack(this.partEnded, () => this.hearAll(peer))) worked = true;
    }
    if (worked) this.sendAll();
    return worked;
  }

  private hearAll(peer: Peer): void {
    for (let got = receiveMessageOnPort(peer.port); got; got = receiveMessageOnPort(peer.port)) {
      this.heard(peer, got.message as PeerMessage);
    }
  }

  private heard(peer: Peer, message: PeerMessage): void {
    switch (message.kind) {
      case 'wake':
        this.kick();
        break;
      case 'arena':
        peer.arenas.set(message.arena, this.options.pmem.registerArena(message.memory));
        break;
      case 'forget':
        this.options.pmem.unregisterArena(peer.arenas.get(message.arena)!);
        peer.arenas.delete(message.arena);
        peer.inbox.forget(message.arena);
        break;
      case 'error':
        peer.outbox.noteError(message.row, message.error);
        break;
      case 'question':
        void this.answer(peer, message.id, message.question);
        break;
      case 'answer':
        this.asked.get(message.id)?.(message.answer);
        this.asked.delete(message.id);
    }
  }

  /** Asks the thread whose shard has a byte of the device. */
  ask(offsetBytes: number, question: unknown): Promise<unknown> {
    const thread = subtreeOf(offsetBytes) % this.threads;
    const peer = this.peers[thread];
    if (peer === undefined) return this.options.answer!(question);
    const id = ++this.questions;
    const answer = new Promise((resolve) => this.asked.set(id, resolve));
    peer.port.postMessage({ kind: 'question', id, question } satisfies PeerMessage);
    return answer;
  }

  private async answer(peer: Peer, id: number, question: unknown): Promise<void> {
    const answer = await this.options.answer!(question);
    if (!this.isClosed) peer.port.postMessage({ kind: 'answer', id, answer } satisfies PeerMessage);
  }

  /** No request may be under way in any thread. */
  close(): void {
    this.isClosed = true;
    clearImmediate(this.immediate);
    for (const { port } of this.others) port.close();
  }
}
