/**
 * Reads the logical device of a cache, without the kernel, and prints its SHA-256.
 *
 *     node read-logical-device.js CACHE BACKING
 */
import { createHash } from 'node:crypto';
import { argv } from 'node:process';
import { openLogicalDevice } from 'pcache';

const [cachePath, backingPath] = argv.slice(2);
const BUFFER_BYTES = 1 << 20;

using device = openLogicalDevice({ cachePath, backingPath });
const hash = createHash('sha256');
for (let offsetBytes = 0; offsetBytes < device.sizeBytes; offsetBytes += BUFFER_BYTES) {
  hash.update(device.read(offsetBytes, Math.min(BUFFER_BYTES, device.sizeBytes - offsetBytes)));
}
console.log(`${hash.digest('hex')}  ${device.sizeBytes} bytes`);
