/**
 * What `--verify` writes into a sector: its number, the version, and a pattern that follows from both, so
 * that a lost, old, misplaced or torn sector shows itself.
 */
export const SECTOR_WORDS = 128;

function seedOf(sector: number, version: number): number {
  const high = Math.floor(sector / 2 ** 32);
  return Math.imul((sector | 0) ^ Math.imul(version, 0x9e3779b1), 0x85ebca6b) ^ high;
}

/** Fills the 128 words at `at` for `version` (≥ 1) of `sector`. */
export function stampSector(words: Uint32Array, at: number, sector: number, version: number): void {
  words[at] = sector;
  words[at + 1] = sector / 2 ** 32;
  words[at + 2] = version;
  let x = seedOf(sector, version);
  for (let k = 3; k < SECTOR_WORDS; k++) {
    x = (Math.imul(x, 0x0019660d) + 0x3c6ef35f) | 0;
    words[at + k] = x;
  }
}

/** The version stamped in the 128 words at `at`; -1 when they are not a whole stamp of `sector`. */
export function readStamp(words: Uint32Array, at: number, sector: number): number {
  if (words[at] !== sector >>> 0 || words[at + 1] !== Math.floor(sector / 2 ** 32)) return -1;
  const version = words[at + 2];
  let x = seedOf(sector, version);
  for (let k = 3; k < SECTOR_WORDS; k++) {
    x = (Math.imul(x, 0x0019660d) + 0x3c6ef35f) | 0;
    if (words[at + k] !== x >>> 0) return -1;
  }
  return version;
}

/** A hash of the 128 words at `at`, never 0: tells whether a sector of unknown contents has stayed the same. */
export function hashSector(words: Uint32Array, at: number): number {
  let x = 0x811c9dc5 | 0;
  for (let k = 0; k < SECTOR_WORDS; k++) {
    x = Math.imul(x ^ words[at + k], 0x01000193);
    x ^= x >>> 15;
  }
  return x >>> 0 || 1;
}

/** Whether the 128 words at `at` are all zero. */
export function isZeroSector(words: Uint32Array, at: number): boolean {
  for (let k = 0; k < SECTOR_WORDS; k++) if (words[at + k] !== 0) return false;
  return true;
}
