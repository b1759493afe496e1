/**
 * Every finding a check can make: how bad it is, what it means, what the kernel does with such a cache, and
 * what repairs it. The one place for all of that; reports and the generated reference read it from here.
 * Invariant: each code a load can stop on (`ProblemCode`) has an entry, and each entry has a damager in the
 * tests that makes exactly that damage.
 */
import type { ProblemCode } from '../engine/media/problem.js';

/** `error`: data is lost, or the kernel refuses or misreads it. `warning`: safe so far. `note`: normal. */
export type Severity = 'error' | 'warning' | 'note';

export interface CatalogueEntry {
  readonly severity: Severity;
  /** Does the kernel refuse to attach such a cache? */
  readonly kernelRefuses: boolean;
  /** What is wrong, in general. */
  readonly meaning: string;
  /** What the kernel does. */
  readonly kernel: string;
  /** What `--repair` does; absent where it does nothing. */
  readonly repair?: string;
  /** Why it does nothing; for every code that is no note and has no repair. */
  readonly noRepair?: string;
}

/** What was cut off is not there to be repaired; without it the rest may be whole. */
const CUT =
  'extend the image with zeroes to the size that the finding gives, and repair it then; or restore the whole from a copy';
const REFUSES = 'refuses to attach the cache';
const FROM_COPY = 'write the lost copy again from the good one';
const IGNORES = 'does not notice';

function refused(meaning: string, repair?: string): CatalogueEntry {
  return {
    severity: 'error',
    kernelRefuses: true,
    meaning,
    kernel: REFUSES,
    ...(repair === undefined ? {} : { repair }),
  };
}

function beyondRepair(entry: CatalogueEntry, noRepair: string): CatalogueEntry {
  return { ...entry, noRepair };
}

function accepted(severity: Severity, meaning: string, kernel: string, repair?: string): CatalogueEntry {
  return { severity, kernelRefuses: false, meaning, kernel, ...(repair === undefined ? {} : { repair }) };
}

function copyLost(what: string, risk: string): CatalogueEntry {
  return accepted(
    'warning',
    `one of the two copies of ${what} is broken; the other one stands (a power cut in the middle of an update leaves this too)`,
    `uses the good copy; ${risk}`,
    FROM_COPY,
  );
}

function seqSuspect(what: string): CatalogueEntry {
  return accepted(
    'warning',
    `the sequence numbers of the two copies of ${what} do not follow one another, so the newer one may be a wrong one`,
    'takes the copy that is ahead by signed 8-bit difference, or the first when both carry the same number',
    'write the other copy again from the one that counts',
  );
}

const DROP_KEY = 'drop the key, and list its range; before dirty_tail, move key_tail behind it';

export const CATALOGUE = {
  // Superblock
  DEVICE_TOO_SMALL: beyondRepair(refused('the device is smaller than 512 MiB: it was cut, or copied in part'), CUT),
  SUPERBLOCK_ZERO_MAGIC: accepted(
    'error',
    'the superblock is wiped, but the cache behind it is there',
    'FORMATS THE DEVICE at the next attach and so destroys the cache; do not attach it',
    'write the superblock again: all of it follows from the size of the device and from cache_info',
  ),
  SUPERBLOCK_BAD_MAGIC: refused(
    'something else lies where the superblock was, but the cache behind it is there',
    'write the superblock again: all of it follows from the size of the device and from cache_info',
  ),
  SUPERBLOCK_BAD_CRC: refused(
    'the superblock does not match its CRC',
    'write the superblock again: all of it follows from the size of the device and from cache_info',
  ),
  SUPERBLOCK_BIG_ENDIAN: refused(
    'the superblock says that a big-endian machine wrote the cache, but the rest is little-endian',
    'write the superblock again',
  ),
  SUPERBLOCK_UNKNOWN_FLAGS: accepted('warning', 'the superblock has flags that mean nothing', IGNORES, 'clear them'),
  SUPERBLOCK_SEGMENTS_ZERO: refused('the superblock says that there are no segments', 'write the superblock again'),
  SUPERBLOCK_SEGMENTS_BEYOND_DEVICE: refused(
    'the superblock counts more segments than the device has room for: the device was cut, or copied in part',
    `write the superblock again, where cache_info and the chain have room on the device; else ${CUT}`,
  ),
  SUPERBLOCK_SEGMENTS_FEWER: accepted(
    'note',
    'the device has room for more segments than the superblock counts; the rest is not used: pcache grow makes use of it',
    'uses what the superblock counts',
  ),

  // cache_info
  CACHE_INFO_LOST: accepted(
    'error',
    'both copies of cache_info are broken',
    'TAKES THE CACHE FOR A NEW ONE at the next attach and empties it; do not attach it',
    'write cache_info again: the chain and the superblock give its size, the payload of keys tells of data_crc, or else --data-crc does; mode and gc_percent are those of the copy that Linux 6.18.0 to 6.18.3 left 24 bytes behind the first, or of a torn copy, else writeback and 70',
  ),
  CACHE_INFO_COPY_LOST: copyLost('cache_info', 'may use an older setting'),
  CACHE_INFO_SEQ_SUSPECT: seqSuspect('cache_info'),
  CACHE_INFO_LAYOUT_OLD: accepted(
    'note',
    'Linux 6.18.0 to 6.18.3 wrote cache_info: it is sound, but these kernels keep a single copy and overwrite it in place, so a crash in that write loses it; a second copy may lie at byte 8216, where no kernel reads it, with a gc_percent that did not persist',
    'uses the copy at byte 8192; later kernels write the copy at byte 12288 at the next attach',
    'write the copy at byte 12288, as later kernels do: from the copy at byte 8216 if that is newer, so that its gc_percent takes effect',
  ),
  CACHE_INFO_NOT_INITIALISED: accepted(
    'error',
    'cache_info is not marked INIT_DONE: the cache was never completely made, or the mark is damaged',
    'INITIALISES THE CACHE FROM SCRATCH at the next attach; do not attach it if it holds data',
    'set the mark, if the segments hold a cache',
  ),
  CACHE_INFO_SEGMENTS_ZERO: refused(
    'cache_info says that the cache has no segments',
    'set it to what the superblock counts',
  ),
  CACHE_INFO_SEGMENTS_EXCEED_SUPERBLOCK: refused(
    'cache_info counts more segments than the superblock',
    'write the superblock again, where the device has room for them: after an interrupted growth of the cache this ends it',
  ),
  CACHE_INFO_SEGMENTS_FEWER: accepted(
    'note',
    'the cache uses fewer segments than the superblock counts; the rest is not used',
    'loads what cache_info counts, but allocates from as many as the superblock counts, also those that it did not load',
  ),
  SEGMENTS_BEYOND_CACHE: accepted(
    'error',
    'segments behind those of the cache have infos, and payload: a larger cache was here, and a smaller one was made or copied over its beginning',
    'uses what cache_info counts: what the larger cache held is lost to it, dirty data included',
    'with --accept-loss clear those infos, and go on with the smaller cache',
  ),
  CACHE_INFO_UNKNOWN_FLAGS: accepted('warning', 'cache_info has flags that mean nothing', IGNORES, 'clear them'),
  CACHE_MODE_UNKNOWN: accepted(
    'error',
    'the cache mode is a number that means nothing',
    IGNORES,
    'set it to writeback',
  ),
  CACHE_MODE_NOT_WRITEBACK: accepted(
    'note',
    'the cache is in a mode that only pcache itself implements',
    'works in writeback mode, the only one it implements',
  ),
  GC_PERCENT_OUT_OF_RANGE: accepted(
    'warning',
    'gc_percent is above 90',
    'may run out of free segments',
    'set it to 70',
  ),

  // Segments
  SEGMENT_INFO_LOST: refused(
    'both copies of the info of a segment are broken',
    'write the info again, linked to the segment after it',
  ),
  SEGMENT_INFO_COPY_LOST: copyLost('the info of a segment', 'refuses the cache when that goes too'),
  SEGMENT_INFO_SEQ_SUSPECT: seqSuspect('the info of a segment'),
  SEGMENT_UNKNOWN_FLAGS: accepted('warning', 'a segment has flags that mean nothing', IGNORES, 'clear them'),
  SEGMENT_TYPE_WRONG: accepted('warning', 'a segment of the chain is not of type cache data', IGNORES, 'set the type'),
  CHAIN_ENDS_EARLY: refused(
    'the chain of segments is shorter than cache_info says',
    'link the segment to the one after it: the kernel makes identity chains only',
  ),
  CHAIN_LEAVES_DEVICE: refused(
    'the chain of segments leads to one that the device does not have',
    'link the segment to the one after it: the kernel makes identity chains only',
  ),
  CHAIN_CYCLE: accepted(
    'error',
    'the chain of segments comes back to one that is in it',
    'attaches, and uses one segment as if it were several',
    'link the segment to the one after it: the kernel makes identity chains only',
  ),
  CHAIN_LAST_HAS_NEXT: accepted(
    'warning',
    'the last segment of the cache is linked to a further one',
    'stops after as many segments as cache_info counts',
    'end the chain there',
  ),
  CHAIN_OUT_OF_ORDER: accepted(
    'error',
    'the chain of segments is whole, but not in the order of the segments, though most of it is: infos have changed places',
    'attaches, and takes the payload of one segment for that of another',
    'link each segment to the one after it: the kernel makes identity chains only; keys of segments that are others then are listed, where neither payload CRCs nor generations prove them',
  ),
  GENERATION_LOST: accepted(
    'error',
    'both copies of the generation of a segment are broken',
    'counts the generation as 0: what was overwritten in that segment long ago may come back',
    'write the highest generation that keys of the segment have, first of all those from dirty_tail on',
  ),
  GENERATION_COPY_LOST: copyLost('the generation of a segment', 'counts the generation as 0 when that goes too'),
  GENERATION_SEQ_SUSPECT: seqSuspect('the generation of a segment'),

  // Tails
  KEY_TAIL_LOST: refused(
    'both copies of key_tail are broken: where the log begins is not known',
    'set key_tail to dirty_tail, before which all is written back; where that is lost too, to behind the last stale key of the one log that there is; where segments hold payload that it does not name, with --accept-loss',
  ),
  KEY_TAIL_COPY_LOST: copyLost('key_tail', 'writes the next update over the good one'),
  KEY_TAIL_SEQ_SUSPECT: seqSuspect('key_tail'),
  KEY_TAIL_OUT_OF_RANGE: refused('key_tail lies outside the segments', 'set it as where it is lost (KEY_TAIL_LOST)'),
  KEY_TAIL_AT_SEGMENT_END: accepted(
    'error',
    'key_tail lies so near to the end of its segment that no kset fits',
    'CRASHES: it reads a kset beyond the segment; do not attach it',
    'set it as where it is lost (KEY_TAIL_LOST)',
  ),
  KEY_TAIL_NOT_ON_KSET: accepted(
    'error',
    'key_tail points into the middle of a kset',
    'takes the log for empty: everything in the cache is lost to it',
    'set key_tail to the beginning of that kset; where dirty_tail is at none either, the kset there is taken to be broken',
  ),
  DIRTY_TAIL_LOST: refused(
    'both copies of dirty_tail are broken: what still has to be written back is not known',
    'set dirty_tail to key_tail: everything then counts as dirty',
  ),
  DIRTY_TAIL_COPY_LOST: copyLost('dirty_tail', 'writes the next update over the good one'),
  DIRTY_TAIL_SEQ_SUSPECT: seqSuspect('dirty_tail'),
  DIRTY_TAIL_OUT_OF_RANGE: refused(
    'dirty_tail lies outside the segments',
    'set dirty_tail to key_tail: everything then counts as dirty',
  ),
  DIRTY_TAIL_AT_SEGMENT_END: accepted(
    'error',
    'dirty_tail lies so near to the end of its segment that no kset fits',
    'finds nothing to write back there: data that is dirty never reaches the backing device',
    'set dirty_tail to key_tail: everything then counts as dirty',
  ),
  DIRTY_TAIL_LEADS_ASTRAY: refused(
    'dirty_tail is not a place in the log, and LAST ksets lead from it in a circle or to a segment that does not exist',
    'set dirty_tail to key_tail: everything then counts as dirty',
  ),
  DIRTY_TAIL_NOT_ON_KSET: accepted(
    'error',
    'dirty_tail points into the middle of a kset',
    'finds nothing to write back there: data that is dirty never reaches the backing device',
    'set dirty_tail to key_tail: everything then counts as dirty',
  ),
  DIRTY_TAIL_BEFORE_KEY_TAIL: accepted(
    'error',
    'dirty_tail lies before key_tail, among ksets that are dead',
    'writes back dead ksets again: old data may go over newer data on the backing device',
    'set both to behind the last stale key: everything then counts as dirty',
  ),
  DIRTY_TAIL_NOT_IN_LOG: accepted(
    'error',
    'dirty_tail is not a position in the log',
    'finds nothing to write back there: data that is dirty never reaches the backing device',
    'set key_tail to dirty_tail where the log is broken before it; else set dirty_tail to key_tail: everything then counts as dirty',
  ),

  // Log
  KSET_TOO_LONG: accepted(
    'error',
    'a kset is longer than what is left of its segment',
    'takes the log to end before it: it and everything after it is lost to it',
    'move it to a free segment, and lead the log there',
  ),
  KSET_UNKNOWN_FLAGS: accepted('warning', 'a kset has flags that mean nothing', IGNORES, 'clear them'),
  LAST_OUT_OF_RANGE: refused(
    'a LAST kset leads to a segment that does not exist',
    'lead the log to the segment where it goes on, if there is one; else end it there',
  ),
  LOG_LOOPS: refused('a LAST kset leads back into the log', 'as for one that leads nowhere (LAST_OUT_OF_RANGE)'),
  LAST_INTO_PAYLOAD: accepted(
    'error',
    'a LAST kset leads into a segment that holds payload',
    'uses the segment for the log and for payload at once, and overwrites one with the other',
    'with --drop-corrupt drop the keys; before dirty_tail, move key_tail behind them',
  ),
  KEY_SEGMENT_HOLDS_PAYLOAD: accepted(
    'error',
    'a key has its payload in a segment of the log',
    'uses the segment for the log and for payload at once, and overwrites one with the other',
    'with --drop-corrupt drop the keys; before dirty_tail, move key_tail behind them',
  ),
  LOG_CUT_SHORT: accepted(
    'error',
    'a broken kset ends the log, but good ksets that belong to it follow',
    'takes the log to end at the broken kset: everything after it is lost to it, dirty data included',
    'mend the kset by its CRC where that tells how; else put ksets of the same length that change nothing in its place, or move what follows, so that the log goes on, and list what it may have said; where nothing leads on, with --drop-corrupt end the log there',
  ),
  LOG_LOST: accepted(
    'error',
    'the log is empty, or ends where its segment was wiped, and payload lies in segments that no key names: the log, or a part of it, is gone, and dirty data with it',
    'takes the log to end there: what the lost part named is lost to it, dirty data included',
    'with --accept-loss go on with the log that is left, and free the segments that no key names',
  ),
  LOG_MAYBE_CUT_SHORT: accepted(
    'warning',
    'the log ends properly, but ksets follow, whole or broken, that could belong to it; they may as well be left from an earlier cache on this device',
    'takes the log to end where it does',
    'blank them, and list what they hold; with --relink, link them to the log',
  ),
  LOG_END_TORN: accepted(
    'warning',
    'a kset that is not whole lies at the end of the log: either a crash tore it, and then nothing in it was acknowledged, or it is damaged, and then its keys are lost; nothing tells which',
    'takes the log to end there and overwrites it',
    'mend the kset by its CRC where that tells how; else blank it, and list what it names; opening the cache for writing here blanks it too; where no room is left for a LAST kset, move the last kset to a free segment',
  ),

  // Keys
  KEY_OUT_OF_BOUNDS: refused('a key is empty or points outside the segments', DROP_KEY),
  KEY_BEYOND_BACKING: refused(
    'a key is for bytes beyond the end of the backing device: it is a wrong or a shrunken one',
    'with --drop-corrupt drop the key; first make sure that the right backing device was given',
  ),
  KEY_UNALIGNED: accepted(
    'error',
    'a key is not aligned to 512 bytes',
    'attaches the cache, and CRASHES at the first read of the range',
    DROP_KEY,
  ),
  KEY_CROSSES_SUBTREE: accepted(
    'error',
    'a key crosses a 4 MiB boundary of the logical space',
    'finds the part after the boundary in no tree, so it reads old data there',
    DROP_KEY,
  ),
  KEY_EMPTY_FLAG: accepted(
    'error',
    'a key is flagged EMPTY, which is for keys in memory only',
    'takes it for a read that is under way and reads the backing device instead',
    'clear the flag where the payload matches its CRC; else drop the key, and list its range',
  ),
  KEY_UNKNOWN_FLAGS: accepted('warning', 'a key has flags that mean nothing', IGNORES, 'clear them'),
  KEY_RESERVED_NOT_ZERO: accepted('warning', 'the reserved field of a key is not zero', IGNORES, 'clear it'),
  KEY_FROM_FUTURE: accepted(
    'error',
    'a key has a later generation than its segment: the generation on media is an old one',
    'counts the key as good, until the generation reaches that of the key and takes it away or brings others back',
    'write the highest generation that a key of the segment has; where others show that generation to be wrong, give the key the one that its segment is at',
  ),
  KEY_STALE_DIRTY: accepted(
    'error',
    'a key that may not be on the backing device yet has an earlier generation than its segment, and nothing is collected before it is written back: the generation on media is a wrong one',
    'reads old data there, and may write the payload back all the same',
    'write the highest generation that a key of the segment has',
  ),
  KEY_STALE_UNCOUNTED: accepted(
    'error',
    'a stale key lies in the log, as a kernel leaves it whose GC ended inside a kset: later kernels count no reference for such a key at attach, and their GC drops one all the same',
    'frees the segment of that key while live data lies in it, or is put there later, and reads old data then; of dirty data the backing device may never get the newest version',
    'set key_tail behind the stale keys: what lies before is written back; drop CLEAN ones from dirty_tail on',
  ),
  OLD_DATA_SHOWS: accepted(
    'error',
    'a key lies before a stale one for the same bytes, which was collected after it: so it is dead too, and what it holds is older than what is on the backing device',
    'reads the older data',
    'set key_tail behind the stale keys: what lies before is written back',
  ),
  PAYLOAD_OVERLAP: accepted(
    'error',
    'two keys claim the same bytes of a segment for different data',
    `${IGNORES}: at least one of them reads as the data of the other`,
    'with --drop-corrupt drop both, since nothing tells which is right; before dirty_tail, move key_tail behind them',
  ),
  PAYLOAD_CRC_CURRENT: refused(
    'the payload of a key does not match its CRC',
    'drop the key where the data is on the backing device (CLEAN, or before dirty_tail); else with --drop-corrupt, and list its range',
  ),
  PAYLOAD_CRC_STALE: refused(
    'the payload of a key that is dead does not match its CRC; no data is lost, but the kernel checks it all the same',
    'move key_tail behind the key',
  ),
  METADATA_UNREADABLE: refused(
    'the medium cannot read a part of the metadata or of the log; the check goes on with the other copy, and behind the part of the log',
    'write it again, as where it is broken; a medium that does not take that has to be copied first, with "pcache pack --data" and "pcache unpack", and the copy repaired',
  ),
  PAYLOAD_UNREADABLE: refused(
    'the medium cannot read the payload of a key',
    'as where it does not match its CRC (PAYLOAD_CRC_CURRENT)',
  ),
} as const satisfies Record<ProblemCode, CatalogueEntry> & Record<string, CatalogueEntry>;

export type FindingCode = keyof typeof CATALOGUE;

/** The entry of a code, with its optional parts in the type. */
export function catalogueEntry(code: FindingCode): CatalogueEntry {
  return CATALOGUE[code];
}
