/**
 * Drives a native helper directly, with every choice of instructions that the processor has, at many lengths and
 * alignments, beside plain JavaScript. Usage: node exercise-helper.cjs HELPER FILE
 */
const assert = require('node:assert');
const { openSync, ftruncateSync } = require('node:fs');

const [helperPath, filePath] = process.argv.slice(2);
const helper = require(helperPath);
const MAP_BYTES = 65_536;
const fd = openSync(filePath, 'w+');
ftruncateSync(fd, MAP_BYTES);
const { handle } = helper.map(fd, MAP_BYTES, true, false);

function crc32c(seed, bytes) {
  let crc = seed;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return crc >>> 0;
}

const pattern = Uint8Array.from({ length: 8192 }, (_, i) => (i * 31 + (i >> 8) * 7 + 1) & 0xff);
const { copy } = helper.features();
const chosen = [];
for (const crc of ['table', 'hardware', 'vector']) {
  for (const writeBack of ['none', 'clflush', 'clflushopt', 'clwb', 'dc-cvap', 'dc-cvadp']) {
    if (!helper.select(copy, writeBack, crc)) continue;
    chosen.push(`${crc}/${writeBack}`);
    for (const length of [0, 1, 7, 8, 63, 64, 65, 127, 128, 257, 4096, 4097]) {
      for (const offset of [0, 1, 63, 64, 4095]) {
        const bytes = pattern.subarray(offset % 97, (offset % 97) + length);
        helper.zero(handle, 0, 16_384);
        helper.write(handle, offset, bytes, 0, length);
        helper.flush(handle, offset, length);
        helper.fence();
        const target = new Uint8Array(16_384);
        helper.read(handle, 0, target, 0, 16_384);
        const expected = new Uint8Array(16_384);
        expected.set(bytes, offset);
        assert.deepStrictEqual(target, expected);
        const seed = 0xffffffff;
        assert.strictEqual(helper.crcRange(handle, offset, length, seed) >>> 0, crc32c(seed, bytes));
        assert.strictEqual(helper.crcBytes(seed, bytes, 0, length) >>> 0, crc32c(seed, bytes));
      }
    }
  }
}
helper.persist(handle);
assert.throws(() => helper.read(handle, MAP_BYTES, new Uint8Array(1), 0, 1), { code: 'OUT_OF_RANGE' });
process.stdout.write(`${process.arch}: ${chosen.join(' ')}\n`);
