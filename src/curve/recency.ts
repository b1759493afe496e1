/**
 * The order in which blocks were last touched, and how many lie behind a place in it. Time is a row of slots; the
 * slot in which a block was last touched is marked. Marks are bits; a Fenwick tree holds their number in each closed
 * group of slots, so that counting the marks behind a slot is a few words and a short walk. When the slots are used
 * up the marks are moved together: memory is bounded by the number of blocks, not by the number of touches.
 *
 * Invariants: slots from `next` on are unmarked; groups before that of `next` are closed and their marks counted in
 * the tree, those of the open group are not.
 */
import { assert } from '../engine/errors.js';

const GROUP_SHIFT = 8;
const GROUP_SLOTS = 1 << GROUP_SHIFT;
const WORD_SHIFT = 5;
const GROUP_WORDS = GROUP_SLOTS >>> WORD_SHIFT;
const FIRST_SLOTS = 1 << 14;
/** Slots per mark after they were moved together: the more, the rarer that is. */
const SLOTS_PER_MARK = 4;
const MAX_SLOTS = 2 ** 32;

function bitCount(word: number): number {
  let v = word - ((word >>> 1) & 0x55555555);
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

export class Recency {
  private words = new Int32Array(FIRST_SLOTS >>> WORD_SHIFT);
  /** Marks of closed groups; entry i counts groups [i - (i & -i), i). */
  private tree = new Int32Array((FIRST_SLOTS >>> GROUP_SHIFT) + 1);
  private slots = FIRST_SLOTS;
  private next = 0;
  private marks = 0;

  get memoryBytes(): number {
    return this.words.byteLength + this.tree.byteLength;
  }

  /** True when `compact` must come before the next `mark`. */
  get isFull(): boolean {
    return this.next === this.slots;
  }

  /** Marks the next slot. @returns the slot. */
  mark(): number {
    const slot = this.next++;
    this.words[slot >>> WORD_SHIFT] |= 1 << (slot & 31);
    this.marks++;
    if ((this.next & (GROUP_SLOTS - 1)) === 0) this.close(slot >>> GROUP_SHIFT);
    return slot;
  }

  /** Takes the mark of `slot` away. */
  unmark(slot: number): void {
    this.words[slot >>> WORD_SHIFT] &= ~(1 << (slot & 31));
    this.marks--;
    const group = slot >>> GROUP_SHIFT;
    if (group < this.next >>> GROUP_SHIFT) this.add(group, -1);
  }

  /** Number of marks behind `slot`, which is marked. */
  behind(slot: number): number {
    const { words, tree } = this;
    const group = slot >>> GROUP_SHIFT;
    let word = slot >>> WORD_SHIFT;
    const end = (group + 1) * GROUP_WORDS;
    // The shift is done in two steps: one by 32 would be none.
    let count = bitCount((words[word] >>> (slot & 31)) >>> 1);
    while (++word < end) count += bitCount(words[word]);
    if (group === this.next >>> GROUP_SHIFT) return count;
    count += this.marks;
    for (let i = group + 1; i > 0; i &= i - 1) count -= tree[i];
    return count;
  }

  private close(group: number): void {
    let count = 0;
    for (let word = group * GROUP_WORDS; word < (group + 1) * GROUP_WORDS; word++) count += bitCount(this.words[word]);
    this.add(group, count);
  }

  private add(group: number, count: number): void {
    const { tree } = this;
    for (let i = group + 1; i < tree.length; i += i & -i) tree[i] += count;
  }

  /**
   * Moves the marks together in their order and makes room.
   * @param rename is given what turns a slot from before into the slot of the same mark afterwards.
   */
  compact(rename: (newSlotOf: (slot: number) => number) => void): void {
    const { words, marks } = this;
    const marksBefore = new Uint32Array(words.length);
    let count = 0;
    for (let word = 0; word < words.length; word++) {
      marksBefore[word] = count;
      count += bitCount(words[word]);
    }
    assert(count === marks, 'marks were miscounted');
    rename((slot) => {
      const word = slot >>> WORD_SHIFT;
      return marksBefore[word] + bitCount(words[word] & ~(-1 << (slot & 31)));
    });
    this.startWith(marks);
  }

  private startWith(marks: number): void {
    let slots = FIRST_SLOTS;
    while (slots < marks * SLOTS_PER_MARK) slots *= 2;
    assert(slots <= MAX_SLOTS, 'too many blocks to order');
    if (slots === this.slots) {
      this.words.fill(0);
      this.tree.fill(0);
    } else {
      this.words = new Int32Array(slots / 2 ** WORD_SHIFT);
      this.tree = new Int32Array(slots / 2 ** GROUP_SHIFT + 1);
      this.slots = slots;
    }
    this.words.fill(-1, 0, marks >>> WORD_SHIFT);
    if ((marks & 31) !== 0) this.words[marks >>> WORD_SHIFT] = ~(-1 << (marks & 31));
    this.next = marks;
    for (let group = 0; group < marks >>> GROUP_SHIFT; group++) this.add(group, GROUP_SLOTS);
  }
}
