/**
 * Repairs of keys (format §1 "Key"): those that cannot be, those that are dead and keep the kernel from
 * attaching, those whose payload is gone. A kset keeps its length, since nothing else says where the next one is:
 * a key that goes is replaced by the one next to it once more, which changes nothing.
 *
 * Before dirty_tail no key is needed: key_tail moves behind the last kset with a bad one.
 */
import type { Position } from '../../engine/media/codecs.js';
import {
  KEY_BYTES,
  KEY_FLAG_CLEAN,
  KEY_FLAG_EMPTY,
  KeyField,
  KSET_FLAG_LAST,
  KSET_HEADER_BYTES,
  KsetField,
  type KsetView,
  sealKset,
} from '../../engine/media/kset.js';
import { structCrc } from '../../engine/media/crc32c.js';
import type { FindingCode } from '../catalogue.js';
import { positionText } from '../../engine/media/position-text.js';
import { DoubleClaims } from './double-claims.js';
import { judgeBadKey, type KeyTrouble } from './key-troubles.js';
import { saysAnything } from './losses.js';
import {
  checksPayload,
  coveredFrom,
  deviceOffset,
  isAt,
  judgeKey,
  keyBeside,
  keyRange,
  payloadMatches,
  walkLog,
} from './log-walk.js';
import { appendTo, mergeRanges, subtractRanges, type ByteRange } from './ranges.js';
import { moveRest } from './relocate.js';
import { moveTail } from './tail-fixes.js';
import { hasFinding, type Consent, type Fix, type Loss, type PlanView } from './types.js';

const KEY_CODES: readonly FindingCode[] = [
  'KSET_UNKNOWN_FLAGS',
  'LAST_INTO_PAYLOAD',
  'KEY_SEGMENT_HOLDS_PAYLOAD',
  'KEY_OUT_OF_BOUNDS',
  'KEY_BEYOND_BACKING',
  'KEY_UNALIGNED',
  'KEY_CROSSES_SUBTREE',
  'KEY_EMPTY_FLAG',
  'KEY_UNKNOWN_FLAGS',
  'KEY_RESERVED_NOT_ZERO',
  'KEY_FROM_FUTURE',
  'KEY_STALE_DIRTY',
  'KEY_STALE_UNCOUNTED',
  'OLD_DATA_SHOWS',
  'PAYLOAD_OVERLAP',
  'PAYLOAD_CRC_CURRENT',
  'PAYLOAD_CRC_STALE',
  'PAYLOAD_UNREADABLE',
];
const PAYLOAD_CODES: readonly FindingCode[] = ['PAYLOAD_CRC_CURRENT', 'PAYLOAD_CRC_STALE', 'PAYLOAD_UNREADABLE'];
const KEY_FLAGS_KNOWN = KEY_FLAG_EMPTY | KEY_FLAG_CLEAN;
/** For more ksets than this, ranges that later keys cover are not taken out of what is listed as lost. */
const COVER_KSETS_MAX = 64;

export function planKeys(view: PlanView): Fix[] {
  const { log } = view;
  if (log === undefined || !hasFinding(view, ...KEY_CODES)) return [];
  return new KeyPlan(view, log.start).run();
}

/** What is wrong with one kset, and with which keys. */
interface KsetTroubles {
  readonly place: Position;
  readonly lengthBytes: number;
  readonly keyCount: number;
  readonly written: boolean;
  readonly flagsUnknown: boolean;
  readonly keys: Map<number, KeyTrouble>;
}

/** Ksets that follow one another, of which no key is left to repeat. */
interface PassedRun {
  readonly place: Position;
  /** The end of the last of them. */
  endOffsetBytes: number;
  readonly codes: Set<FindingCode>;
  readonly losses: Loss[];
  readonly consent: Consent;
}

class KeyPlan {
  private readonly claims: DoubleClaims;
  private readonly payload: boolean;
  private readonly oldShows: boolean;
  private readonly fixes: Fix[] = [];
  private readonly passed: PassedRun[] = [];
  private dropped = 0;

  constructor(
    private readonly view: PlanView,
    private readonly start: Position,
  ) {
    this.claims = new DoubleClaims(view);
    this.oldShows = hasFinding(view, 'OLD_DATA_SHOWS');
    this.payload = checksPayload(view) && hasFinding(view, ...PAYLOAD_CODES);
  }

  run(): Fix[] {
    const { view } = this;
    const { dirtyTail } = view.header;
    const ksets: KsetTroubles[] = [];
    let written = dirtyTail !== undefined;
    walkLog(view, this.start, (kset, place) => {
      if (isAt(place, dirtyTail)) written = false;
      const troubles = this.look(kset, place, written);
      if (troubles.keys.size > 0 || troubles.flagsUnknown) ksets.push(troubles);
    });
    // Of keys that claim the same payload none may go alone: the one that is left would look right.
    const claimed = ({ keys }: KsetTroubles) => [...keys.values()].some(({ code }) => code === 'PAYLOAD_OVERLAP');
    const contested = ksets.some((one) => !one.written && claimed(one));
    const behind = ksets
      .filter((one) => one.written && [...one.keys.values()].some((trouble) => trouble.drop))
      .filter((one) => !contested || !claimed(one))
      .at(-1);
    if (behind !== undefined) return [this.leaveBehind(behind)];
    for (const troubles of ksets) if (!troubles.written || !claimed(troubles)) this.plan(troubles);
    // One of these is made a round, and each takes a look at the whole log: the first to be made is enough.
    const { isSettled } = view.options;
    const open = this.passed.filter(({ place, consent }) => !isSettled(passId(place, consent)));
    open.some((run) => this.pass(run));
    return this.fixes;
  }

  private look(kset: KsetView, place: Position, written: boolean): KsetTroubles {
    const flagsUnknown = kset.flags - (kset.isLast ? KSET_FLAG_LAST : 0) !== 0;
    const keys = new Map<number, KeyTrouble>();
    for (let index = 0; index < kset.keyCount; index++) {
      const trouble = this.lookAtKey(kset, index, written);
      if (trouble !== undefined) keys.set(index, trouble);
    }
    const { lengthBytes, keyCount } = kset;
    return { place, lengthBytes, keyCount, written, flagsUnknown, keys };
  }

  private lookAtKey(kset: KsetView, index: number, written: boolean): KeyTrouble | undefined {
    const { view } = this;
    const verdict = judgeKey(view, kset, index);
    if (verdict === 'bad') return judgeBadKey(view, kset, index);
    const lossless = kset.keyIsClean(index);
    if (verdict === 'stale') return this.judgeStale(kset, index, written);
    const consent: Consent = lossless ? 'plain' : 'drop-corrupt';
    if (this.payload && !payloadMatches(view, kset, index)) {
      return { code: 'PAYLOAD_CRC_CURRENT', drop: true, consent, lossless };
    }
    const claimed = this.claims.codeFor(kset, index);
    if (claimed !== undefined && !(claimed === 'PAYLOAD_OVERLAP' && this.payload)) {
      return { code: claimed, drop: true, consent, lossless };
    }
    if (verdict === 'future') return { code: 'KEY_FROM_FUTURE', drop: false, consent: 'plain', lossless: true };
    if ((kset.keyFlags(index) & ~KEY_FLAGS_KNOWN) !== 0) {
      return { code: 'KEY_UNKNOWN_FLAGS', drop: false, consent: 'plain', lossless: true };
    }
    if (kset.keyReserved(index) !== 0) {
      return { code: 'KEY_RESERVED_NOT_ZERO', drop: false, consent: 'plain', lossless: true };
    }
    return undefined;
  }

  /** No stale key may stay in the log: a kernel that attaches it drops a reference too many. */
  private judgeStale(kset: KsetView, index: number, written: boolean): KeyTrouble {
    const common = { drop: true, consent: 'plain', lossless: true } as const;
    if (!written && !kset.keyIsClean(index)) return { ...common, code: 'KEY_STALE_DIRTY', lossless: false };
    if (written && this.oldShows) return { ...common, code: 'OLD_DATA_SHOWS' };
    if (this.payload && !payloadMatches(this.view, kset, index)) return { ...common, code: 'PAYLOAD_CRC_STALE' };
    return { ...common, code: 'KEY_STALE_UNCOUNTED' };
  }

  /** All up to this kset is on the backing device. */
  private leaveBehind({ place, lengthBytes, keys }: KsetTroubles): Fix {
    const to = { segment: place.segment, offsetBytes: place.offsetBytes + lengthBytes };
    const found = new Set([...keys.values()].map((trouble) => trouble.code));
    if (hasFinding(this.view, 'KEY_STALE_UNCOUNTED')) found.add('KEY_STALE_UNCOUNTED');
    const codes = [...found];
    const assumed = 'what lies before dirty_tail is written back, and is given up';
    return moveTail(this.view, 'key_tail', to, codes, { assumed });
  }

  private plan(troubles: KsetTroubles): void {
    const { view } = this;
    // First what takes no more than a yes; what is left is seen then.
    const all = [...troubles.keys];
    const plain = all.filter(([, trouble]) => trouble.consent === 'plain');
    const consent: Consent = plain.length > 0 || troubles.flagsUnknown ? 'plain' : 'drop-corrupt';
    const chosen = new Map(consent === 'plain' ? plain : all);
    const bytes = new Uint8Array(troubles.lengthBytes);
    view.context.source.read(deviceOffset(view, troubles.place), bytes, 0, bytes.length);
    const codes = new Set<FindingCode>([...chosen.values()].map((trouble) => trouble.code));
    if (troubles.flagsUnknown) codes.add('KSET_UNKNOWN_FLAGS');
    const drops = [...chosen].filter(([, trouble]) => trouble.drop).map(([index]) => index);
    for (const [index, trouble] of chosen) if (!trouble.drop) this.clean(bytes, index, trouble);
    const losses = this.lossesOf(troubles, chosen);
    const where = positionText(troubles.place);
    if (drops.length > 0 && !this.replace(bytes, troubles, drops)) {
      this.skip(troubles, [...codes], losses, consent);
      return;
    }
    this.seal(bytes, troubles);
    const many = (count: number): string => `${count} key${count === 1 ? '' : 's'}`;
    const cleaned = chosen.size - drops.length;
    const parts = [
      ...(drops.length > 0 ? [`drop ${many(drops.length)}`] : []),
      ...(cleaned > 0 ? [`set ${many(cleaned)} right`] : []),
      ...(troubles.flagsUnknown ? ['clear unknown flags'] : []),
    ];
    this.fixes.push({
      id: `kset ${where} ${consent} ${[...codes].join()}`,
      codes: [...codes],
      action: `${parts.join(' and ')} in the kset ${where}`,
      consent,
      losses,
      steps: [[{ offsetBytes: deviceOffset(view, troubles.place), bytes }]],
    });
  }

  /** Clears what means nothing in a key, and gives one from the future its segment's generation. */
  private clean(bytes: Uint8Array, index: number, trouble: KeyTrouble): void {
    const view = new DataView(bytes.buffer);
    const at = KSET_HEADER_BYTES + index * KEY_BYTES;
    const flags = view.getUint32(at + KeyField.flags, true);
    view.setUint32(at + KeyField.flags, flags & KEY_FLAG_CLEAN, true);
    view.setUint32(at + KeyField.reserved, 0, true);
    if (trouble.code !== 'KEY_FROM_FUTURE') return;
    const present = this.view.chain.generation[view.getUint32(at + KeyField.segment, true)];
    view.setBigUint64(at + KeyField.generation, BigInt(present), true);
  }

  /** Puts the nearest key that stays in the place of each that goes. */
  private replace(bytes: Uint8Array, troubles: KsetTroubles, drops: readonly number[]): boolean {
    const { place, keyCount } = troubles;
    const gone = new Set(drops);
    const keyAt = (index: number): Uint8Array =>
      bytes.subarray(KSET_HEADER_BYTES + index * KEY_BYTES, KSET_HEADER_BYTES + (index + 1) * KEY_BYTES);
    const outside = (): Uint8Array | undefined =>
      keyBeside(this.view, this.start, place, { ...place, offsetBytes: place.offsetBytes + troubles.lengthBytes });
    let beside: Uint8Array | undefined;
    for (const index of drops) {
      // The next one that stays, or the last one before; one with a trouble of its own goes in its turn.
      let other = index + 1;
      while (other < keyCount && gone.has(other)) other++;
      if (other === keyCount) other = index - 1;
      while (other >= 0 && gone.has(other)) other--;
      if (other >= 0) {
        keyAt(index).set(keyAt(other));
        continue;
      }
      beside ??= outside();
      if (beside === undefined) return false;
      keyAt(index).set(beside);
    }
    return true;
  }

  private seal(bytes: Uint8Array, { keyCount }: KsetTroubles): void {
    const view = new DataView(bytes.buffer);
    const isLast = (view.getUint32(KsetField.flags, true) & KSET_FLAG_LAST) !== 0;
    if (!isLast) {
      sealKset(bytes, keyCount);
      return;
    }
    view.setUint32(KsetField.flags, KSET_FLAG_LAST, true);
    view.setUint32(KsetField.flags + 4, 0, true);
    view.setUint32(KsetField.crc, structCrc(bytes, 0, bytes.length), true);
  }

  /** Notes a kset of which no key is left to repeat, here or beside. */
  private skip({ place, lengthBytes }: KsetTroubles, codes: FindingCode[], losses: Loss[], consent: Consent): void {
    const endOffsetBytes = place.offsetBytes + lengthBytes;
    const last = this.passed.at(-1);
    if (last?.consent === consent && isAt(place, { ...last.place, offsetBytes: last.endOffsetBytes })) {
      last.endOffsetBytes = endOffsetBytes;
      for (const code of codes) last.codes.add(code);
      appendTo(last.losses, losses);
    } else {
      this.passed.push({ place, endOffsetBytes, codes: new Set(codes), losses, consent });
    }
  }

  /**
   * If no kset is left before these, the log begins behind them; if none is left behind, the log ends before them; else
   * the rest of the log goes to a free segment, past them.
   * @returns whether there is a way
   */
  private pass({ place, endOffsetBytes, codes: codeSet, losses, consent }: PassedRun): boolean {
    const { view } = this;
    const log = view.log!;
    const codes = [...codeSet];
    const to = { segment: place.segment, offsetBytes: endOffsetBytes };
    if (isAt(place, this.start) && isAt(place, view.header.dirtyTail)) {
      this.fixes.push({ ...moveTail(view, 'dirty_tail', to, codes, { losses }), consent });
      this.fixes.push({ ...moveTail(view, 'key_tail', to, codes), consent });
      return true;
    }
    const where = positionText(place);
    const isLast = isAt(to, log.facts.end);
    const moved = isLast ? undefined : moveRest(view, log, place, to);
    if (moved === undefined && !isLast) return false;
    const blank = [[{ offsetBytes: deviceOffset(view, place), bytes: new Uint8Array(KSET_HEADER_BYTES) }]];
    this.fixes.push({
      id: passId(place, consent),
      codes,
      action: isLast
        ? `end the log before the kset ${where}: no key is left of it, or of what follows`
        : `move the ksets behind ${where} to the free segment ${moved?.segment}, and lead the log there past it`,
      consent,
      losses: [...losses, ...(moved?.losses ?? [])],
      isAlone: true,
      steps: moved?.steps ?? blank,
    });
    return true;
  }

  /** What the keys that go, and are not known to be on the backing device, were for. */
  private lossesOf(troubles: KsetTroubles, chosen: ReadonlyMap<number, KeyTrouble>): Loss[] {
    const { view } = this;
    const lost: { range: ByteRange; trouble: KeyTrouble; index: number }[] = [];
    walkLog(view, troubles.place, (kset) => {
      for (const [index, trouble] of chosen) {
        if (!trouble.lossless && trouble.drop) lost.push({ range: keyRange(kset, index), trouble, index });
      }
      return false;
    });
    if (lost.length === 0) return [];
    const where = `kset ${positionText(troubles.place)}`;
    const ranges = lost.map(({ range }) => range).filter((range) => Number.isSafeInteger(range.offsetBytes));
    // A key that cannot be does not say which range it was for.
    const mayBeMore = lost.some(({ trouble }) => trouble.isNonsense === true) || ranges.length < lost.length;
    this.dropped++;
    const loss: Loss = {
      kind: 'lost',
      where,
      reason: [...new Set(lost.map(({ trouble }) => REASONS[trouble.code] ?? 'its key cannot be'))].join('; '),
      ranges: this.dropped > COVER_KSETS_MAX ? mergeRanges(ranges) : this.withoutLater(troubles, ranges),
      mayBeMore,
    };
    // Where later keys cover all of it, nothing is lost.
    return saysAnything(loss) ? [loss] : [];
  }

  private withoutLater({ place, lengthBytes }: KsetTroubles, ranges: ByteRange[]): ByteRange[] {
    const later = coveredFrom(this.view, { ...place, offsetBytes: place.offsetBytes + lengthBytes });
    return subtractRanges(ranges, later);
  }
}

function passId(place: Position, consent: Consent): string {
  return `pass ${positionText(place)} ${consent}`;
}

const REASONS: Partial<Record<FindingCode, string>> = {
  PAYLOAD_CRC_CURRENT: 'the payload does not match its CRC',
  PAYLOAD_OVERLAP: 'two keys claim the same payload, and nothing tells whose it is',
  KEY_SEGMENT_HOLDS_PAYLOAD: 'the payload lies in a segment of the log',
  LAST_INTO_PAYLOAD: 'the payload lies in a segment of the log',
  KEY_STALE_DIRTY: 'the payload is gone with the generation of its segment',
};
