/** Counters of a running cache since it was opened. They are plain numbers, so counting costs one addition. */
export class EngineStats {
  reads = 0;
  readBytes = 0;
  /** Reads that the cache served as a whole. */
  readHits = 0;
  /** Bytes of reads that came from the backing device. */
  readMissBytes = 0;
  writes = 0;
  writeBytes = 0;
  fuaWrites = 0;
  flushes = 0;
  /** TRIM and WRITE_ZEROES. */
  trims = 0;
  trimBytes = 0;
  zeroes = 0;
  zeroBytes = 0;
  failedRequests = 0;
  /** Requests that had to wait for a free segment. */
  deferredRequests = 0;

  backingReads = 0;
  backingReadBytes = 0;
  /** Misses whose data went into the cache as CLEAN keys; and fills dropped because a write came first or room was short. */
  fills = 0;
  fillBytes = 0;
  fillsDropped = 0;
  /** Writes, or parts of writes, that went past the cache (writearound). */
  directWrites = 0;
  directWriteBytes = 0;
  /** Ranges that were zeroed on the backing device, for TRIM and WRITE_ZEROES of what the cache does not hold. */
  backingZeroes = 0;
  backingZeroBytes = 0;
  /** Reads of cached data that failed its CRC (verifyReads); and those whose data the backing device had, so that it was mended. */
  readPayloadErrors = 0;
  readPayloadsMended = 0;
  /** Stale index entries dropped. */
  staleDropped = 0;

  writebackKsets = 0;
  writebackKeys = 0;
  writebackWrites = 0;
  writebackBytes = 0;
  writebackFailures = 0;
  /** Dirty keys not written back because their payload does not match its CRC or cannot be read. */
  writebackCorruptKeys = 0;
  backingFlushes = 0;

  gcKsets = 0;
  gcKeys = 0;
  segmentsFreed = 0;
  /** Keys whose payload did not match its CRC when GC passed them (already written back by then). */
  gcPayloadErrors = 0;
}
