/**
 * `pcache bench fsck`: how fast the check goes over payload, beside the raw CRC-32C of the same segments, and
 * `pcache bench crc`: how fast that is by each method.
 */
import { nativeAddon } from '../engine/device/native.js';
import type { PmemReader } from '../engine/device/pmem.js';
import { CRC_SEED, crc32cRaw } from '../engine/media/crc32c.js';
import { KERNEL_GEOMETRY, segmentDataOffsetBytes } from '../engine/media/geometry.js';
import { checkCache } from '../fsck/check.js';
import { medianOf, spreadOf, type Spread } from './spread.js';

export interface CheckBenchResult {
  readonly payloadBytes: number;
  readonly keys: number;
  readonly rounds: number;
  readonly clean: boolean;
  /** Threads that the check takes CRCs by. */
  readonly threads: number;
  readonly bytesPerSecond: number;
  /** Raw CRC-32C over as many bytes of the same map, by one thread. */
  readonly crcBytesPerSecond: number;
  readonly ratio: Spread;
}

/**
 * @param pmem a cache with data_crc
 * @param threads for the check; the raw CRC is always taken by one
 */
export async function benchCheck(
  pmem: PmemReader,
  segments: number,
  rounds: number,
  threads: number,
  onRound: (round: number) => Promise<void>,
): Promise<CheckBenchResult> {
  const crc = nativeAddon().crcBytes;
  const check = () => checkCache(pmem, { geometry: KERNEL_GEOMETRY, data: true, crc, threads });
  const { examined, clean } = check();
  const bytes = examined.payloadBytes;
  const checkNs: number[] = [];
  const crcNs: number[] = [];
  for (let round = 0; round < rounds; round++) {
    checkNs.push(timed(check));
    crcNs.push(timed(() => rawCrc(pmem, segments, bytes)));
    await onRound(round + 1);
  }
  return {
    payloadBytes: bytes,
    keys: examined.keys,
    rounds,
    clean,
    threads,
    bytesPerSecond: (bytes * 1e9) / medianOf(checkNs),
    crcBytesPerSecond: (bytes * 1e9) / medianOf(crcNs),
    ratio: spreadOf(checkNs.map((ns, round) => crcNs[round] / ns)),
  };
}

function timed(body: () => unknown): number {
  const started = performance.now();
  body();
  return (performance.now() - started) * 1e6;
}

/** CRC of the segments' data, one after the other, until `bytes` are done. */
function rawCrc(pmem: PmemReader, segments: number, bytes: number): void {
  const { segmentDataBytes } = KERNEL_GEOMETRY;
  for (let segment = 0, left = bytes; left > 0; segment = (segment + 1) % segments) {
    const length = Math.min(left, segmentDataBytes);
    pmem.crc32c(segmentDataOffsetBytes(KERNEL_GEOMETRY, segment), length, CRC_SEED);
    left -= length;
  }
}

export interface CrcBenchResult {
  readonly method: string;
  readonly bytesPerSecond: Record<string, number>;
}

const CRC_BYTES = 64 * 1024 * 1024;
const TABLE_BYTES = 8 * 1024 * 1024;
const CRC_ROUNDS = 5;

/** The CRC of ordinary memory: natively in pieces of several sizes, and by tables. */
export function benchCrc(): CrcBenchResult {
  const addon = nativeAddon();
  const bytes = new Uint8Array(CRC_BYTES).fill(0x5a);
  const rates: Record<string, number> = {};
  for (const piece of [512, 4096, 65_536, CRC_BYTES]) {
    const run = () => {
      for (let at = 0; at + piece <= CRC_BYTES; at += piece) addon.crcBytes(CRC_SEED, bytes, at, at + piece);
    };
    rates[`native, ${piece} bytes`] = (CRC_BYTES * 1e9) / median(run);
  }
  rates['tables'] = (TABLE_BYTES * 1e9) / median(() => crc32cRaw(CRC_SEED, bytes, 0, TABLE_BYTES));
  return { method: addon.features().crc, bytesPerSecond: rates };
}

function median(body: () => void): number {
  return medianOf(Array.from({ length: CRC_ROUNDS }, () => timed(body)));
}
