/** Makes a thread a shard of a cache: the messages between the shard and its coordinator. */
import { CacheDriver } from '../driver.js';
import { errorOf, noteOf } from '../errors.js';
import type { FromShard, ToShard } from './messages.js';
import { Shard, type ShardOptions } from './shard.js';

/**
 * Makes this thread a shard, which answers its coordinator until the cache is closed.
 * @returns the shard's driver, and a promise that settles when the shard is closed
 */
export function openShard(options: ShardOptions): {
  readonly driver: CacheDriver<Shard>;
  readonly closed: Promise<void>;
} {
  const { port } = options.seed;
  const tell = (message: FromShard) => port.postMessage(message);
  let shard: Shard;
  try {
    shard = new Shard(options);
  } catch (error) {
    tell({ kind: 'failed', error: noteOf(error) });
    throw error;
  }
  shard.tell = tell;
  const driver = new CacheDriver(shard, options.clock);
  const closed = new Promise<void>((resolve, reject) => {
    const act = async (message: ToShard): Promise<void> => {
      switch (message.kind) {
        case 'wake':
          driver.kick();
          break;
        case 'commit':
          shard.requestClose();
          driver.kick();
          break;
        case 'drain':
          await driver.drain().then(
            () => tell({ kind: 'drained' }),
            (error: unknown) => tell({ kind: 'drained', error: noteOf(error) }),
          );
          break;
        case 'yield':
          shard.letGo();
          shard.step();
          driver.kick();
          tell({ kind: 'yielded' });
          break;
        case 'fail':
          shard.failWaiting(errorOf(message.error));
          driver.kick();
          break;
        case 'unflushed':
          shard.flushFailed(errorOf(message.error));
          driver.kick();
          break;
        case 'status':
          tell({ kind: 'status', status: shard.status });
          break;
        case 'close':
          await driver
            .close()
            .finally(() => shard.markClosed())
            .then(
              (report) => tell({ kind: 'closed', report }),
              (error: unknown) => tell({ kind: 'closed', error: noteOf(error) }),
            );
          port.close();
          resolve();
      }
    };
    port.on('message', (message: ToShard) => void act(message).catch(reject));
  });
  tell({ kind: 'ready' });
  return { driver, closed };
}
