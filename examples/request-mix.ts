/**
 * Makes a cache, runs a mix of requests through it and prints what became of them.
 *
 *     node request-mix.js CACHE BACKING
 *
 * CACHE is created; BACKING must exist and have at least 4 MiB. It is overwritten.
 */
import { argv } from 'node:process';
import { formatCache, openCache, type CacheRequest } from 'pcache';

const [cachePath, backingPath] = argv.slice(2);
const BLOCK_BYTES = 4096;
const BLOCKS = 1024;
const GROUPS = 100;
const REQUESTS_PER_GROUP = 32;

await formatCache({ cachePath, sizeBytes: 512 * 2 ** 20, dataCrc: true });
await using cache = await openCache({ cachePath, backingPath, verifyReads: true });

/** Two reads for every write, anywhere in the first 4 MiB. The requests of a group share one fence. */
function group(): CacheRequest[] {
  return Array.from({ length: REQUESTS_PER_GROUP }, (_, n) => {
    const offsetBytes = Math.floor(Math.random() * BLOCKS) * BLOCK_BYTES;
    if (n % 3 !== 0) return { op: 'read', offsetBytes, target: new Uint8Array(BLOCK_BYTES) };
    return { op: 'write', offsetBytes, source: new Uint8Array(BLOCK_BYTES).fill(n) };
  });
}

let requests = 0;
let failed = 0;
let missBytes = 0;
for (let n = 0; n < GROUPS; n++) {
  for (const outcome of await cache.run(group())) {
    requests++;
    missBytes += outcome.missBytes;
    if (outcome.error !== undefined) failed++;
  }
}
await cache.flush();
console.log(`${requests} requests, ${failed} failed, ${missBytes} bytes read from the backing device`);

await cache.drain();
const { dirtyBytes } = await cache.close();
console.log(`closed with ${dirtyBytes} dirty bytes`);
