/** What a thread of `attach --jobs` runs: one shard of the cache, and the clients and queues that it is given. */
import { Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { parentPort, workerData } from 'node:worker_threads';
import type { ServedQueue } from '../block-device/ublk-queue.js';
import { openBackingAgain } from '../engine/device/backing-file.js';
import { asSystemError, bestCrc32c, type NativeError } from '../engine/device/native.js';
import { mapAgain } from '../engine/device/open.js';
import { assert, fromSystemError, noteOf } from '../engine/errors.js';
import { openShard } from '../engine/index.js';
import { Exchange } from '../engine/shards/exchange.js';
import { answerAllocation, ExchangeStore } from './exchange-store.js';
import { LocalService, type ServedClient } from './service.js';
import type { FromServing, ServingData, ToServing } from './serving-messages.js';
import { SharedPressure } from './shared-pressure.js';
import { loadTls } from './tls.js';

const port = parentPort;
assert(port !== null, 'a serving thread was started as a program');
const tell = (message: FromServing) => port.postMessage(message);
const data = workerData as ServingData;
const { sizeBytes, description, exportName } = data;

const pmem = mapAgain(data.device);
const backing = openBackingAgain(data.backing);
const clock = { nowMs: () => performance.now() };
const { driver, closed } = openShard({ seed: data.shard, pmem, backing, clock, crc: bestCrc32c(), punches: true });
const exchange = new Exchange({
  seed: data.exchange,
  driver,
  pmem,
  sizeBytes,
  answer: (question) => answerAllocation(driver.cache, backing, question),
});
const pressure = new SharedPressure(data.pressure, data.shard.shard);
const service = new LocalService({
  store: new ExchangeStore({ exchange, pmem, sizeBytes, pressure }),
  description,
  nowMs: clock.nowMs,
  tls: loadTls(data.tls, () => {}), // warnings were given where it was loaded first
  exportName,
  tell: (of, text) => tell({ kind: 'tell', of, text }),
});
const clients = new Map<number, ServedClient>();
const queues = new Map<number, ServedQueue>();

function connect({ client, fd, origin, isDevice, admitted }: Extract<ToServing, { kind: 'client' }>): void {
  // Not in the types of Node.js: it begins to read at once otherwise.
  const options = { fd, readable: true, writable: true, allowHalfOpen: true, pauseOnCreate: true };
  const socket = new Socket(options);
  const onReleased = () => {
    clients.delete(client);
    tell({ kind: 'released', client });
  };
  const onAdmitted = () => Atomics.store(admitted, 0, 1);
  clients.set(client, service.connect({ socket, origin, isDevice, onReleased }, onAdmitted));
}

async function serveQueue({ queue, place }: Extract<ToServing, { kind: 'queue' }>): Promise<void> {
  try {
    const served = await service.serveQueue(place, (errno) => tell({ kind: 'queue ended', queue, errno }));
    queues.set(queue, served);
    tell({ kind: 'queue served', queue, error: undefined });
  } catch (error) {
    const cause = 'errno' in (error as object) ? asSystemError(error as NativeError) : error;
    tell({ kind: 'queue served', queue, error: noteOf(fromSystemError(cause, place.path, 'serving it')) });
  }
}

async function closeQueue(queue: number): Promise<void> {
  await queues.get(queue)?.close();
  queues.delete(queue);
  tell({ kind: 'queue closed', queue });
}

async function sendStatus(id: number): Promise<void> {
  tell({ kind: 'status', id, status: { activity: await service.activity(), shard: driver.cache.status } });
}

async function act(message: ToServing): Promise<void> {
  switch (message.kind) {
    case 'client':
      connect(message);
      break;
    case 'stop':
      clients.get(message.client)?.stop();
      break;
    case 'destroy':
      clients.get(message.client)?.destroy();
      break;
    case 'evict':
      clients.get(message.client)?.evict();
      break;
    case 'queue':
      await serveQueue(message);
      break;
    case 'close queue':
      await closeQueue(message.queue);
      break;
    case 'status':
      await sendStatus(message.id);
      break;
    case 'stop pacing':
      service.stopPacing();
  }
}

port.on('message', (message: ToServing) => void act(message));

await closed;
exchange.close();
pmem.close();
backing.close();
port.close();
