/**
 * Promises over single requests. A read or write here is a group of one request with an arena of its own; callers that
 * need speed fill `RequestGroup`s.
 */
import type { Pmem } from './device/pmem.js';
import type { CacheDriver, Driven } from './driver.js';
import { Op, RequestFlag, RequestGroup, RequestState } from './request/request-group.js';

export class CacheIo {
  constructor(
    private readonly driver: CacheDriver<Driven>,
    private readonly pmem: Pmem,
  ) {}

  /** Reads into `target`. Offset and length in bytes, multiples of 512. @throws PcacheError */
  read(offsetBytes: number, target: Uint8Array): Promise<void> {
    return this.request(Op.read, offsetBytes, target, 0);
  }

  /** Writes `source`, which must not change before the promise settles. @throws PcacheError */
  write(offsetBytes: number, source: Uint8Array, options: { readonly fua?: boolean } = {}): Promise<void> {
    return this.request(Op.write, offsetBytes, source, options.fua ? RequestFlag.fua : 0);
  }

  /** Makes every acknowledged write durable in the cache. @throws PcacheError */
  flush(): Promise<void> {
    return this.request(Op.flush, 0, new Uint8Array(0), 0);
  }

  private request(op: number, offsetBytes: number, memory: Uint8Array, flags: number): Promise<void> {
    const arena = this.pmem.registerArena(memory);
    const group = new RequestGroup(1, arena);
    group.add(op, offsetBytes, memory.length, 0, flags);
    return new Promise((resolve, reject) => {
      const end = () => {
        this.pmem.unregisterArena(arena);
        if (group.state[0] === RequestState.failed) reject(group.errors[0]!);
        else resolve();
      };
      group.onRequestDone = end;
      const pending = this.driver.cache.submit(group);
      this.driver.kick();
      if (pending === 0) end();
    });
  }
}
