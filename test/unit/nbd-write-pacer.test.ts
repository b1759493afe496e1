/** How writes are slowed when the cache is nearly full: the rate, the turns, and what a slow backing device does. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { WritebackPace } from '../../src/engine/background/write-back-pace.js';
import type { WritePressure } from '../../src/engine/index.js';
import { HeldReplies, WritePacer, writeRate } from '../../src/nbd/write-pacer.js';

const MIB = 1024 * 1024;
const pressureOf = (roomMib: number, rate = 400): WritePressure => {
  return { roomBytes: roomMib * MIB, zoneBytes: 96 * MIB, writebackBytesPerMs: rate };
};

describe('the rate of writes', () => {
  it('is not bounded outside the zone, the measured one in its middle, and never zero', () => {
    expect(writeRate(pressureOf(96))).toBe(Infinity);
    expect(writeRate(pressureOf(48))).toBeCloseTo(400);
    expect(writeRate(pressureOf(72))).toBeGreaterThan(1600);
    expect(writeRate(pressureOf(24))).toBeLessThan(100);
    expect(writeRate(pressureOf(0)) * 1000).toBeGreaterThan(4096);
    expect(writeRate(pressureOf(48, 0))).toBeGreaterThan(100);
  });
});

describe('the pacer', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  const pacerOf = (pressure: () => WritePressure | undefined) => new WritePacer({ pressure, nowMs: () => Date.now() });

  it('holds nothing back while there is room', () => {
    const pacer = pacerOf(() => undefined);
    expect(pacer.hold(new HeldReplies(vi.fn(), vi.fn()), 1, 4096)).toBe(false);
  });

  it('sends held replies at the rate of the backing device, and lets connections take turns', () => {
    const pacer = pacerOf(() => pressureOf(48));
    const sent: string[] = [];
    const busy = new HeldReplies((op) => sent.push(`busy ${op}`), vi.fn());
    const late = new HeldReplies((op) => sent.push(`late ${op}`), vi.fn());
    for (let op = 0; op < 256; op++) expect(pacer.hold(busy, op, 4096)).toBe(true);
    expect(busy.isOverdrawn).toBe(true);
    vi.advanceTimersByTime(500);
    expect(sent.length).toBeGreaterThan(40); // 400 bytes a millisecond are 49 blocks
    expect(sent.length).toBeLessThan(60);
    const before = sent.length;
    pacer.hold(late, 7, 4096);
    vi.advanceTimersByTime(30);
    expect(sent.slice(before)).toContain('late 7');
    pacer.stop();
    expect(sent).toHaveLength(257);
    expect(pacer.hold(busy, 1, 4096)).toBe(false);
  });

  it('sends everything that is held when there is room again', () => {
    let pressure: WritePressure | undefined = pressureOf(10);
    const pacer = pacerOf(() => pressure);
    const release = vi.fn();
    const queue = new HeldReplies(release, vi.fn());
    for (let op = 0; op < 100; op++) pacer.hold(queue, op, 4096);
    pressure = undefined;
    vi.advanceTimersByTime(50);
    expect(release).toHaveBeenCalledTimes(100);
    expect([pacer.isSlowed, queue.heldBytes]).toEqual([false, 0]);
  });
});

describe('the pace of write-back', () => {
  it('is known after one cycle, and only busy time counts', () => {
    const pace = new WritebackPace();
    expect([pace.ksetsWithin(250), pace.ksetsWithin(Infinity), pace.rate(0)]).toEqual([1, Infinity, 0]);
    pace.began(1000, 8000);
    pace.ended(1090);
    pace.began(5000, 0);
    pace.ended(5010);
    pace.cycleEnded(2);
    expect([pace.ksetsWithin(250), pace.ksetsWithin(10), pace.rate(5010)]).toEqual([5, 1, 80]);
  });

  it('sinks while a device does not answer', () => {
    const pace = new WritebackPace();
    pace.began(0, 8000);
    pace.ended(100);
    pace.cycleEnded(1);
    pace.began(100, 8000);
    expect(pace.rate(150)).toBe(80);
    expect(pace.rate(10_100)).toBeCloseTo(0.8);
  });
});
