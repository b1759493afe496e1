/** Tells pairs of cache and backing device apart as long as the machine runs. */
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';

/** @returns 48 bits, the same for every path of the same two devices or files */
export function pairIdentity(cachePath: string, backingPath: string): bigint {
  const names = [cachePath, backingPath].map((path) => {
    const { dev, ino, rdev, mode } = statSync(path, { bigint: true });
    const isDevice = (mode & 0o170000n) === 0o060000n || (mode & 0o170000n) === 0o020000n;
    return isDevice ? `device ${rdev}` : `file ${dev} ${ino}`;
  });
  return createHash('sha256').update(names.join('\n')).digest().readBigUInt64BE(0) >> 16n;
}
