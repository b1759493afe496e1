/** The kernel's status line (format §4), compared with what `pcache info` predicted before the attach. */
import { expect } from 'vitest';

const FIELDS = [
  'superblock flags',
  'segments on device',
  'segments',
  'segments used',
  'gc_percent',
  'flags',
  'key_head',
  'dirty_tail',
  'key_tail',
] as const;

function fieldsOf(line: string): Record<(typeof FIELDS)[number], string> {
  const words = line.split(' ');
  expect(words.length, `fields of the status line "${line}"`).toBe(FIELDS.length);
  return Object.fromEntries(FIELDS.map((name, n) => [name, words[n]])) as Record<(typeof FIELDS)[number], string>;
}

export function segmentsUsed(line: string): number {
  return Number(fieldsOf(line)['segments used']);
}

/** The segment that the log ends in. */
export function keyHeadSegment(line: string): number {
  return Number(fieldsOf(line)['key_head'].split(':')[0]);
}

/** Whether the kernel may collect garbage in a cache with this status. */
function mayCollect(line: string, writebackHeld: boolean): boolean {
  const fields = fieldsOf(line);
  const threshold = Math.floor((Number(fields['segments']) * Number(fields['gc_percent'])) / 100);
  const collectable = !writebackHeld || fields['key_tail'] !== fields['dirty_tail'];
  return segmentsUsed(line) >= threshold && collectable;
}

/**
 * Demands that the kernel says what `pcache info` says, but for what may have moved meanwhile.
 * @param writebackHeld the backing device was slowed down, so that dirty_tail cannot have moved yet
 */
export function expectStatus(kernel: string, predicted: string, writebackHeld: boolean): void {
  const moving: string[] = [];
  if (!writebackHeld) moving.push('dirty_tail');
  if (mayCollect(predicted, writebackHeld)) moving.push('key_tail', 'segments used');
  const fixed = (line: string) => Object.entries(fieldsOf(line)).filter(([name]) => !moving.includes(name));
  expect(fixed(kernel)).toEqual(fixed(predicted));
}
