/** A running cache as `attach` needs it, whether one thread has all of it or several have a share each. */
import type { Cache, CacheDriver, CacheStatus, CloseReport, DirtyInLog } from '../engine/index.js';

export interface ServedCache extends Pick<
  Cache,
  'failure' | 'writebackError' | 'dirtyKsets' | 'hasOpenKeys' | 'stats'
> {
  /** Has everything that was acknowledged put into the log, soon. */
  commitSoon(): void;
  /** As `Cache.setGcPercent`. */
  setGcPercent(gcPercent: number): void;
  /** As `CacheDriver.drain`. */
  drain(): Promise<void>;
  dirtyInLog(): DirtyInLog;
  status(): Promise<CacheStatus>;
  /** As `CacheDriver.close`. */
  close(): Promise<CloseReport>;
}

/** A cache that this thread has. */
export class DrivenCache implements ServedCache {
  constructor(private readonly driver: CacheDriver) {}

  get failure(): Cache['failure'] {
    return this.driver.cache.failure;
  }
  get writebackError(): Cache['writebackError'] {
    return this.driver.cache.writebackError;
  }
  get dirtyKsets(): Cache['dirtyKsets'] {
    return this.driver.cache.dirtyKsets;
  }
  get hasOpenKeys(): boolean {
    return this.driver.cache.hasOpenKeys;
  }
  get stats(): Cache['stats'] {
    return this.driver.cache.stats;
  }
  commitSoon(): void {
    this.driver.cache.requestClose();
    this.driver.kick();
  }
  setGcPercent(gcPercent: number): void {
    this.driver.cache.setGcPercent(gcPercent);
    this.driver.kick();
  }
  drain(): Promise<void> {
    return this.driver.drain();
  }
  dirtyInLog(): DirtyInLog {
    return this.driver.cache.dirtyInLog();
  }
  status(): Promise<CacheStatus> {
    return Promise.resolve(this.driver.cache.status());
  }
  close(): Promise<CloseReport> {
    return this.driver.close();
  }
}
