/**
 * Contents of test sectors: every sector carries its number and the id of the write that made it, and all of
 * its 8-byte words depend on both, so that a sector torn or misplaced is seen. Id 0 is what a device holds
 * from the start.
 */
const SECTOR_BYTES = 512;
const WORDS = SECTOR_BYTES / 4;
const STEP = 0x9e3779b1 | 0;

/** What a sector says that is nobody's. */
export const NOT_A_STAMP = -1;
/** What a sector says that holds nothing but zeroes. */
export const ZEROES = -2;

/** The two above are no ids of a write. */
function withoutStamp(words: Int32Array, at: number): number {
  for (let i = 0; i < WORDS; i++) if (words[at + i] !== 0) return NOT_A_STAMP;
  return ZEROES;
}

function baseOf(sector: number, id: number): number {
  let mixed = Math.imul(id ^ (id >>> 15), 0x2c1b3c6d) ^ Math.imul(sector + 1, 0x297a2d39);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0x5bd1e995);
  return mixed ^ (mixed >>> 16);
}

/** Memory that is looked at in 32-bit words; must start and end at a multiple of 4 bytes. */
export function wordsOf(memory: Uint8Array): Int32Array {
  return new Int32Array(memory.buffer, memory.byteOffset, memory.byteLength >>> 2);
}

/** Writes the stamp of `sector` and write `id` into `words` from index `at` on. */
export function stamp(words: Int32Array, at: number, sector: number, id: number): void {
  words[at] = id;
  words[at + 1] = sector;
  let value = baseOf(sector, id);
  for (let i = 2; i < WORDS; i++) {
    words[at + i] = value;
    value = (value + STEP) | 0;
  }
}

/** The id of the write whose whole stamp for `sector` is at index `at`; else ZEROES or NOT_A_STAMP. */
export function readStamp(words: Int32Array, at: number, sector: number): number {
  const id = words[at];
  if (id < 0 || words[at + 1] !== sector) return withoutStamp(words, at);
  let value = baseOf(sector, id);
  for (let i = 2; i < WORDS; i++) {
    if (words[at + i] !== value) return withoutStamp(words, at);
    value = (value + STEP) | 0;
  }
  return id;
}

/** As `readStamp`, looking at one word of each 64-byte line only. For what is looked at again and again. */
export function glanceAtStamp(words: Int32Array, at: number, sector: number, offset: number): number {
  const id = words[at];
  if (id < 0 || words[at + 1] !== sector) return withoutStamp(words, at);
  const base = baseOf(sector, id);
  for (let i = 2 + (offset % 14); i < WORDS; i += 16) {
    if (words[at + i] !== ((base + Math.imul(i - 2, STEP)) | 0)) return withoutStamp(words, at);
  }
  return id;
}

/** What a place says that is no stamp, for a message. */
export function describeContents(words: Int32Array, at: number): string {
  const ids = new Set<string>();
  for (let i = 0; i < WORDS; i += 2) ids.add((words[at + i] >>> 0).toString(16));
  const zero = ids.size === 1 && ids.has('0');
  return zero ? 'zeroes' : `id ${words[at]} of sector ${words[at + 1]}, ${ids.size} different words`;
}
