/** What carries a connection's bytes, as the connection sees it: a socket, TLS over one, or a test. */
export interface Transport {
  /**
   * Sends bytes after those sent before; they must stay as they are until `done`, which may never come, or come before
   * this returns.
   */
  send(bytes: Uint8Array, done: () => void): void;
  /** Between the two, what is sent is collected. */
  cork(): void;
  uncork(): void;
  /** Goes on receiving after `Receiver` has said that it takes no more. */
  resume(): void;
  /** Closes when everything has been sent. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

/** What takes a connection's bytes. Each call answers whether it takes more; if not, `Transport.resume` follows later. */
export interface Receiver {
  /** Memory to receive into; undefined to have the bytes given with `take`. Valid until the next call here. */
  readonly target: Uint8Array | undefined;
  /** So many bytes were received into `target`. */
  taken(count: number): boolean;
  /** Bytes received elsewhere; they stay as they are until the receiver takes more. */
  take(bytes: Uint8Array): boolean;
  /** The client sends no more. */
  ended(): void;
  /** The connection is gone, in whatever way. */
  closed(): void;
}
