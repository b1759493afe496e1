/** A cache that shows its parts to tests. */
import type { Writeback } from '../../src/engine/background/write-back.js';
import { Cache } from '../../src/engine/cache.js';
import type { Core } from '../../src/engine/core.js';

export class InspectedCache extends Cache {
  /** Index, segment table, log and data heads of the running cache. */
  get parts(): Core {
    return this.core;
  }
  get writebackPart(): Writeback {
    return this.writeback;
  }
}
