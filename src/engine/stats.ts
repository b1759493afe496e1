/** Counters of a running cache since it was opened. Plain numbers, so that counting costs one addition. */
export class EngineStats {
  reads = 0;
  readBytes = 0;
  /** Reads served wholly from the cache. */
  readHits = 0;
  /** Bytes of reads that came from the backing device. */
  readMissBytes = 0;
  writes = 0;
  writeBytes = 0;
  fuaWrites = 0;
  flushes = 0;
  failedRequests = 0;
  /** Requests that had to wait because no segment was free. */
  deferredRequests = 0;

  backingReads = 0;
  backingReadBytes = 0;
  /** Misses whose data went into the cache as CLEAN keys, and those dropped (overtaken, or no room). */
  fills = 0;
  fillBytes = 0;
  fillsDropped = 0;
  /** Writes, or parts of them, that went past the cache (writearound). */
  directWrites = 0;
  directWriteBytes = 0;
  /** Reads of cached data that failed its CRC (verifyReads). */
  readPayloadErrors = 0;
  /** Index entries dropped because their segment had moved on. */
  staleDropped = 0;

  writebackKsets = 0;
  writebackKeys = 0;
  writebackWrites = 0;
  writebackBytes = 0;
  writebackFailures = 0;
  /** Dirty keys that are not written back because their payload does not match its CRC. */
  writebackCorruptKeys = 0;
  backingFlushes = 0;

  gcKsets = 0;
  gcKeys = 0;
  segmentsFreed = 0;
  /** Keys whose payload did not match its CRC when GC passed them (already written back by then). */
  gcPayloadErrors = 0;
}
