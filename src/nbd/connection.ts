/**
 * A client from its greeting to its end: negotiation, perhaps TLS and negotiation again, then requests. Its
 * memory is taken when it has been let in and given back when nothing uses it any more.
 */
import type { Arena } from '../engine/device/pmem.js';
import type { ArenaPool } from './memory.js';
import { greeting, Negotiation, type Outcome, type TlsPolicy } from './negotiation.js';
import type { ServerStats } from './stats.js';
import type { Store } from './store.js';
import { Transmission } from './transmission.js';
import type { Receiver, Transport } from './transport.js';
import type { WritePacer } from './write-pacer.js';

export interface ConnectionOptions {
  readonly store: Store;
  readonly arenas: ArenaPool;
  readonly stats: ServerStats;
  readonly pacer?: WritePacer | undefined;
  readonly description: string;
  /** Name of the export; undefined takes whatever name a client gives. */
  readonly exportName?: string | undefined;
  readonly nowMs: () => number;
  /** True for the kernel's client on a device of this machine, which sends requests at once. */
  readonly isNegotiated?: boolean;
  readonly needsTls: boolean;
  /** Puts TLS over the transport: from then on its bytes are the encrypted conversation's. */
  readonly startTls: () => void;
  /** Receives what belongs in a log. */
  readonly tell?: (kind: string, text: string) => void;
  /** Called when negotiation is over, before the client hears of it. */
  readonly onAdmitted?: (() => void) | undefined;
  /** Called once, when the client is gone and holds nothing any more. */
  readonly onReleased: () => void;
}

/** What was negotiated. */
interface Agreed {
  readonly isStructured: boolean;
  readonly isExtended: boolean;
  readonly hasAllocation: boolean;
}

export class Connection implements Receiver {
  private negotiation: Negotiation | undefined;
  private transmission: Transmission | undefined;
  private arena: Arena | undefined;
  private isClosed = false;
  private isReleased = false;

  constructor(
    private readonly transport: Transport,
    private readonly options: ConnectionOptions,
  ) {
    if (options.isNegotiated === true) {
      options.onAdmitted?.();
      this.admit({ isStructured: false, isExtended: false, hasAllocation: false }, Buffer.alloc(0));
      return;
    }
    this.negotiate(options.needsTls ? 'required' : 'none', undefined);
    this.send(greeting());
  }

  /** Negotiation is over. */
  get isAdmitted(): boolean {
    return this.transmission !== undefined;
  }

  private negotiate(tls: TlsPolicy, flags: number | undefined): void {
    const { store, description, exportName } = this.options;
    const { sizeBytes, isReadOnly } = store;
    this.negotiation = new Negotiation({
      sizeBytes,
      isReadOnly,
      description,
      exportName,
      tls,
      flags,
      send: (bytes) => this.send(bytes),
      onReady: this.options.onAdmitted,
    });
  }

  private send(bytes: Uint8Array): void {
    this.transport.send(bytes, () => {});
  }

  get target(): Uint8Array | undefined {
    return this.transmission?.target;
  }

  taken(count: number): boolean {
    return this.transmission!.taken(count);
  }

  take(bytes: Uint8Array): boolean {
    if (this.transmission) return this.transmission.take(bytes);
    return this.negotiation === undefined ? false : this.follow(this.negotiation.take(bytes));
  }

  /** @returns whether more bytes are wanted. */
  private follow(outcome: Outcome): boolean {
    switch (outcome.kind) {
      case 'more':
        return true;
      case 'ready':
        return this.admit(outcome, outcome.rest);
      case 'tls':
        this.negotiate('established', outcome.flags);
        this.options.startTls();
        return true;
      case 'abort':
        this.negotiation = undefined;
        this.transport.end();
        return false;
      case 'broken':
        this.negotiation = undefined;
        this.options.stats.protocolErrors++;
        this.options.tell?.('protocol', `broke the protocol: ${outcome.what}`);
        this.transport.destroy();
        return false;
    }
  }

  private admit({ isStructured, isExtended, hasAllocation }: Agreed, rest: Uint8Array): boolean {
    const { store, arenas, stats, pacer, nowMs, tell } = this.options;
    this.arena = arenas.take();
    this.negotiation = undefined;
    this.transmission = new Transmission({
      store,
      arena: this.arena,
      transport: this.transport,
      stats,
      pacer,
      nowMs,
      isStructured,
      isExtended,
      hasAllocation,
      onProtocolError: (what) => {
        stats.protocolErrors++;
        tell?.('protocol', `broke the protocol: ${what}`);
      },
      onFailure: (command, text) => tell?.(`failed ${command}`, `request ${command} failed: ${text}`),
      onReleased: () => this.release(),
    });
    return rest.length === 0 || this.transmission.take(rest);
  }

  ended(): void {
    if (this.transmission) this.transmission.ended();
    else this.transport.end();
  }

  closed(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    if (this.transmission) this.transmission.closed();
    else this.release();
  }

  private release(): void {
    if (this.isReleased) return;
    this.isReleased = true;
    if (this.arena) this.options.arenas.give(this.arena);
    this.options.onReleased();
  }

  /** Takes no further request; what is under way is answered, and then it closes. */
  stop(): void {
    if (this.transmission) this.transmission.stop();
    else this.transport.end();
  }

  /** Closes at once. */
  destroy(): void {
    this.transport.destroy();
  }

  /** Closes at once, unless negotiation is over. */
  evict(): void {
    if (!this.isAdmitted) this.destroy();
  }
}
