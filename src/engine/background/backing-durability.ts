/**
 * What requests need to know of the backing device in the modes that write through, and when holes are made: which ksets
 * are on it, and its flushes. Ksets closed since the cache was opened have the numbers 1, 2, … (`LogWriter.ksetsClosed`).
 */
import type { PcacheError } from '../errors.js';
import type { FlushTickets } from './flush-tickets.js';

export interface BackingDurability {
  /** Number of the last kset that has been written to the backing device. */
  readonly written: number;
  readonly flushes: Pick<FlushTickets, 'request' | 'isServed' | 'owe' | 'isDone'>;
  /** What another thread zeroed on the backing device may still be lost in a crash. */
  readonly othersOweFlush: boolean;
  /** Consecutive failures; 0 when the last attempt succeeded. */
  readonly failures: number;
  /** Write-back cannot go on before the cache is opened again. */
  readonly stopped: boolean;
  /** Why write-back is failing, has stopped, or cannot finish; undefined when all is well. */
  readonly lastError: PcacheError | undefined;
  /** Called when ksets were written or the device was flushed; with an error when all waiters are to fail. */
  onChange: (error: PcacheError | undefined) => void;
}
