/** What the tests of block devices in a virtual machine share. */
import { execFileSync } from 'node:child_process';
import { findClient } from '../support/clients.js';
import { pcacheFunctions } from '../kernel/guest-pcache.js';

/**
 * How often a server is killed in `kills.test.ts`; 0 leaves out what takes minutes. The other tests of block devices kill
 * one server each.
 */
export const KILLS = Number(process.env['PCACHE_KERNEL_DEVICE_KILLS'] ?? 0);
/** Ends the title of a test that is left out. */
export const REASON = KILLS === 0 ? ' (skipped: needs PCACHE_KERNEL_DEVICE_KILLS)' : '';

/** Programs that a guest starts over and over, with their libraries: into its memory, as in `guest-programs.ts`. */
function programFiles(): string[] {
  const programs = ['e2fsck', 'env', 'mount', 'seq', 'umount'].map((name) => findClient(name) ?? name);
  const libraries = programs.flatMap((path) => [
    ...execFileSync('ldd', [path], { encoding: 'utf8' }).matchAll(/ => (\/\S+)/g),
  ]);
  return [...new Set([...programs, ...libraries.map(([, file]) => file)])];
}

/** `PCACHE_DEVICE_JOBS=N` serves with so many threads. */
const JOBS = process.env['PCACHE_DEVICE_JOBS'] === undefined ? '' : `--jobs ${process.env['PCACHE_DEVICE_JOBS']}`;

/**
 * Bash functions for a guest whose disk `diskWithPrograms` made.
 *
 * - begin FLAG…: starts an attach of /dev/pmem0 and the first backing device; its process is $pid.
 * - serve FLAG…: the same, and waits until it serves.
 * - gone: waits until /dev/nbd0 is free.
 * - pause SECONDS: sleeps, without a program: starting one takes much longer in an emulated machine.
 *
 * What an attach says is in /tmp/x/result and /tmp/x/log at the end.
 */
export const deviceFunctions = (backingBytes: number): string => `
  ${pcacheFunctions(backingBytes)}
  cp -L ${programFiles().join(' ')} /run/p
  export PATH="/run/p:$PATH" LD_LIBRARY_PATH=/run/p
  mkdir -p /tmp/m
  BACKING=/dev/mapper/backing0 sectors=$(blockdev --getsz /dev/mapper/backing0)
  trap 'cp /tmp/result /tmp/log /tmp/x' EXIT
  mkfifo /tmp/never
  pause() { read -rt $1 <>/tmp/never || true; }
  begin() { $PROGRAM attach /dev/pmem0 $BACKING "$@" ${JOBS} --json >/tmp/result 2>/tmp/log & pid=$!; }
  serve() {
    begin "$@"
    for n in $(seq 2400); do
      mapfile -t said </tmp/log
      [[ "\${said[*]}" = *serving* ]] && return
      kill -0 $pid || { cat /tmp/log; return 1; }
      pause 0.2
    done
    return 1
  }
  gone() { for n in $(seq 300); do read -r blocks </sys/block/nbd0/size; [ "$blocks" != 0 ] || return 0; pause 0.1; done; return 1; }`;
