/** The engine's clock. The engine reads no time of its own: the caller that opens a cache gives it one. */

/** Time as the engine sees it: milliseconds from any origin, never going back. */
export interface Clock {
  nowMs(): number;
}
