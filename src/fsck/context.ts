/** What the parts of one check share. */
import type { Crc32c } from '../engine/media/crc32c.js';
import type { Geometry } from '../engine/media/geometry.js';
import type { CountingReader, Examined } from './examined.js';
import type { Findings } from './findings.js';

export interface CheckContext {
  readonly source: CountingReader;
  readonly geometry: Geometry;
  readonly findings: Findings;
  readonly examined: Examined;
  /** Size of the backing device; Infinity when it is not known. */
  readonly backingBytes: number;
  /**
   * By how much the numbers of the two copies of a generation may differ: Linux 6.18 writes the first update after each
   * attach over the newest copy, later ones always alternate.
   */
  generationUpdatesMax: number;
  /** Whether cache_info says that keys carry the CRC of their payload; undefined when it is lost. */
  dataCrc: boolean | undefined;
  /** Memory for the map of what keys claim, bytes. */
  readonly payloadMapBytes: number;
  /** CRC-32C for ksets in memory. */
  readonly crc: Crc32c;
}
