/**
 * Raw CRC-32C as the format uses it: Castagnoli, reflected, no inversion before or after, always seeded
 * with `CRC_SEED`. This is the table-driven implementation (eight bytes a step): the fallback when the native
 * helper is off, and the reference that the native one is tested against.
 */

/** Raw CRC-32C of `bytes[start, end)` continued from `seed`, unsigned: the type of `crc32cRaw` and of the native one. */
export type Crc32c = (seed: number, bytes: Uint8Array, start: number, end: number) => number;

/** Seed of every CRC on media. */
export const CRC_SEED = 0x0003b15a;

/** A CRC as messages show it. */
export function crcText(crc: number): string {
  return `0x${crc.toString(16).padStart(8, '0')}`;
}

const POLYNOMIAL_REFLECTED = 0x82f63b78;

function makeTables(): Uint32Array[] {
  const tables = Array.from({ length: 8 }, () => new Uint32Array(256));
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL_REFLECTED : crc >>> 1;
    tables[0][byte] = crc >>> 0;
  }
  for (let byte = 0; byte < 256; byte++) {
    for (let slice = 1; slice < 8; slice++) {
      const previous = tables[slice - 1][byte];
      tables[slice][byte] = (tables[0][previous & 0xff] ^ (previous >>> 8)) >>> 0;
    }
  }
  return tables;
}

const [T0, T1, T2, T3, T4, T5, T6, T7] = makeTables();

/** Raw CRC-32C of `bytes[start, end)` continued from `seed`; the result is unsigned. */
export function crc32cRaw(seed: number, bytes: Uint8Array, start = 0, end = bytes.length): number {
  let crc = seed | 0;
  let i = start;
  for (; i + 8 <= end; i += 8) {
    crc ^= bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24);
    crc =
      T7[crc & 0xff] ^
      T6[(crc >>> 8) & 0xff] ^
      T5[(crc >>> 16) & 0xff] ^
      T4[crc >>> 24] ^
      T3[bytes[i + 4]] ^
      T2[bytes[i + 5]] ^
      T1[bytes[i + 6]] ^
      T0[bytes[i + 7]];
  }
  for (; i < end; i++) crc = T0[(crc ^ bytes[i]) & 0xff] ^ (crc >>> 8);
  return crc >>> 0;
}

/** CRC of a structure on media that starts with its own CRC: everything after the first four bytes. */
export function structCrc(bytes: Uint8Array, start: number, lengthBytes: number): number {
  return crc32cRaw(CRC_SEED, bytes, start + 4, start + lengthBytes);
}

/** The 4 bytes, as a little-endian number, whose raw CRC-32C from seed 0 is `crc`: at the end of what a CRC covers, they change it by `crc`. */
export function wordOfCrc(crc: number): number {
  let word = crc | 0;
  for (let bit = 0; bit < 32; bit++) word = word < 0 ? ((word ^ POLYNOMIAL_REFLECTED) << 1) | 1 : word << 1;
  return word >>> 0;
}
