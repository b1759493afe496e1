/** The driver of a cache on the event loop. */
import { describe, expect, it } from 'vitest';
import { CacheDriver } from '../../src/engine/driver.js';
import { SmallCache } from '../support/small-cache.js';

describe('CacheDriver', () => {
  it('gives way after each turn of background work', async () => {
    const small = new SmallCache();
    const done: string[] = [];
    small.cache.step = () => done.push('step') < 3;
    const driver = new CacheDriver(small.cache, small.clock, () => done.push('way'));
    await new Promise((resolve) => setImmediate(resolve));
    expect(done).toEqual(['step', 'step', 'step', 'way']);
    driver.kick();
    await new Promise((resolve) => setImmediate(resolve));
    expect(done.slice(4)).toEqual(['step', 'way']);
  });

  it('lets the event loop have its turn when work takes long', async () => {
    const small = new SmallCache();
    const done: string[] = [];
    small.cache.step = () => {
      small.clock.advance(0.3);
      return done.push('step') < 6;
    };
    const driver = new CacheDriver(small.cache, small.clock, () => done.push('way'));
    for (let n = 0; n < 3; n++) await new Promise((resolve) => setImmediate(resolve));
    expect(done.slice(0, 6)).toEqual(['step', 'step', 'way', 'step', 'step', 'way']);
    await driver.close();
  });

  it('does no more work and refuses to drain once it is closed', async () => {
    const small = new SmallCache();
    const driver = new CacheDriver(small.cache, small.clock);
    await driver.close();
    expect(small.write(0, 1, 1).errorCode).toBe('CLOSED');
    await expect(driver.drain()).rejects.toThrow('the driver is closed');
    const steps = small.cache.stats.writebackKsets;
    driver.kick();
    await new Promise((resolve) => setImmediate(resolve));
    expect(small.cache.stats.writebackKsets).toBe(steps);
  });
});
