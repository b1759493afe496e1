/**
 * pcache inside a guest. Node and the bundled program lie in a tar archive behind the backing devices, on the same disk: a
 * guest reads a disk many times faster than this machine's files.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, rmSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { MIB, SECTOR_BYTES } from '../../src/engine/media/geometry.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const HELPER = 'native/build/Release/pcache_native.node';
/** Backing devices on a disk. */
export const BACKINGS = 2;

/** Makes a disk: BACKINGS backing devices of zeroes, then the programs. */
export function diskWithPrograms(path: string, backingBytes: number): void {
  rmSync(path, { force: true });
  const programs = `${path}.tar`;
  const libraries = [...execFileSync('ldd', [process.execPath], { encoding: 'utf8' }).matchAll(/ => (\/\S+)/g)];
  const files = [process.execPath, ...libraries.map(([, file]) => file)];
  const flat = ['--dereference', '--transform=s,.*/\\(node\\|lib[^/]*\\)$,\\1,'];
  execFileSync('tar', ['-cf', programs, '-P', ...flat, ...files]);
  const tree = ['--dereference', '-C', ROOT, '--exclude=*.map', '--exclude=LICENSES.txt'];
  execFileSync('tar', ['-rf', programs, ...tree, 'bundle', HELPER, 'package.json']);
  truncate(path, 'w', BACKINGS * backingBytes);
  execFileSync('dd', [`if=${programs}`, `of=${path}`, 'bs=1M', 'oflag=append', 'conv=notrunc', 'status=none']);
  rmSync(programs);
  // A disk consists of whole sectors.
  truncate(path, 'r+', Math.ceil(statSync(path).size / MIB) * MIB);
}

function truncate(path: string, flags: string, sizeBytes: number): void {
  const fd = openSync(path, flags, 0o600);
  ftruncateSync(fd, sizeBytes);
  closeSync(fd);
}

/** A file of zeroes that takes no room. */
export function sparseFile(path: string, sizeBytes: number): string {
  truncate(path, 'w', sizeBytes);
  return path;
}

/**
 * Bash functions for a guest whose disk `diskWithPrograms` made. The backing device of cache N is /dev/mapper/backingN.
 *
 * - pcache ARGUMENTS: runs pcache.
 * - begin N CACHE [FLAG…]: starts to serve a cache as /dev/nbdN, its process is ${pid[N]}; serving N: waits until it is
 *   served.
 * - gone N: waits until /dev/nbdN is free, after its server was killed.
 */
export const pcacheFunctions = (backingBytes: number): string => `
  mkdir -p /run/p
  dd if=/dev/vda bs=1M skip=${(BACKINGS * backingBytes) / MIB} status=none | tar -C /run/p -x
  for n in $(seq 0 ${BACKINGS - 1}); do
    dmsetup create backing$n --table "0 ${backingBytes / SECTOR_BYTES} linear /dev/vda $((n * ${backingBytes / SECTOR_BYTES}))"
  done
  PROGRAM="env LD_LIBRARY_PATH=/run/p NODE_OPTIONS=--no-warnings /run/p/node /run/p/bundle/pcache.cjs"
  pcache() { $PROGRAM "$@"; }
  begin() {
    local n=$1; shift
    $PROGRAM attach "$1" /dev/mapper/backing$n --device /dev/nbd$n "\${@:2}" >/tmp/x/result$n 2>/tmp/x/log$n & pid[$n]=$!
  }
  serving() {
    for n in $(seq 2400); do
      if grep -q serving /tmp/x/log$1; then return; fi
      kill -0 \${pid[$1]} || { cat /tmp/x/log$1; return 1; }
      sleep 0.1
    done
    return 1
  }
  gone() { for n in $(seq 300); do [ "$(cat /sys/block/nbd$1/size)" != 0 ] || return 0; sleep 0.1; done; return 1; }
`;
