/**
 * Real Linux kernels with dm-pcache, in a virtual machine. `PCACHE_TEST_KERNEL` lists folders, separated by colons,
 * each with a `vm.sh` and a `bzImage`; every test runs in each of these kernels. Without it, or without the programs
 * that a virtual machine needs, the tests are skipped with the reason in their title (with PCACHE_REQUIRE_CLIENTS=1 a
 * missing program fails them).
 *
 * At most one machine runs at a time, whatever the number of test processes: `flock` sees to it.
 */
import { spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { describe, it } from 'vitest';
import { clientsRequired, findClient } from './clients.js';
import { imagesFolderOf } from './images-cleanup.js';

const NEEDED_FILES = ['vm.sh', 'bzImage'];
const NEEDED_PROGRAMS = ['qemu-system-x86_64', 'gcc', 'flock', 'dmsetup'];
const GUEST_SOURCES = fileURLToPath(new URL('../kernel/guest/', import.meta.url));
const PRELUDE = join(GUEST_SOURCES, 'prelude.sh');
/** Holds a program called as QEMU is, for machines with persistent memory of the old kind. */
const LEGACY_PMEM = fileURLToPath(new URL('legacy-pmem/', import.meta.url));
const LOCK_PATH = join(tmpdir(), 'pcache-test-kernel.lock');

const DEFAULT_SECONDS = 180;
const TAIL_LINES = 40;
const UP = '=== guest up';
const DONE = /=== guest done rc=(\d+)/;
const PANIC = /Kernel panic|Oops:|BUG:|general protection fault/;

/**
 * On a busy machine an emulated timer can be so late that the kernel gives up while it starts, or stands still, before
 * anything of ours runs. Then it is booted again, so many times at most.
 */
const BOOT_TRIES = 3;
/** Exit status of timeout(1) when time was up. */
const TIMED_OUT = 124;
/** Time to start, after which the machine stands still. An idle host needs a tenth. */
const BOOT_MS = 150_000;

/** Time a test may take that runs one machine, waiting for those of other test files included. */
export const KERNEL_TEST_TIMEOUT_MS = 900_000;

/** A kernel to run in a virtual machine. */
export interface TestKernel {
  readonly folder: string;
  /** `7.2.13`, as the kernel calls itself. */
  readonly version: string;
}

/** Where a bzImage says at which offset, less 0x200, its version text begins (Linux boot protocol 2.00). */
const VERSION_POINTER_OFFSET = 0x20e;
const VERSION_BASE = 0x200;
const VERSION_BYTES_MAX = 64;

/** The version in the header of a kernel image. */
function versionOf(folder: string): string {
  const image = readFileSync(join(folder, 'bzImage'));
  const start = VERSION_BASE + image.readUInt16LE(VERSION_POINTER_OFFSET);
  const text = image.toString('latin1', start, start + VERSION_BYTES_MAX);
  const version = /^[0-9]+\.[0-9]+[^ \0]*/.exec(text)?.[0];
  if (version === undefined) throw new Error(`${folder}/bzImage has no version in its header`);
  return version;
}

function foldersOf(): string[] {
  return (process.env['PCACHE_TEST_KERNEL'] ?? '').split(':').filter((folder) => folder !== '');
}

/** A `describe` that runs once in each kernel. */
export function describeWithKernel(name: string, body: (kernel: TestKernel) => void): void {
  const folders = foldersOf();
  if (folders.length === 0) {
    it.skip(`${name} (skipped: PCACHE_TEST_KERNEL is not set)`, () => undefined);
    return;
  }
  const missingProgram = NEEDED_PROGRAMS.find((program) => findClient(program) === undefined);
  for (const folder of folders) {
    const missingFile = NEEDED_FILES.find((file) => !existsSync(join(folder, file)));
    if (missingFile !== undefined) {
      it(`${name}: needs a kernel`, () => {
        throw new Error(`PCACHE_TEST_KERNEL names ${folder}, which has no ${missingFile}`);
      });
    } else if (missingProgram === undefined) {
      const kernel = { folder, version: versionOf(folder) };
      describe(`${name} (Linux ${kernel.version})`, () => body(kernel));
    } else if (clientsRequired) {
      it(`${name}: needs ${missingProgram}`, () => {
        throw new Error(`${missingProgram} is not installed, and PCACHE_REQUIRE_CLIENTS=1 requires it`);
      });
    } else {
      it.skip(`${name} (skipped: ${missingProgram} is not installed)`, () => undefined);
    }
  }
}

/**
 * The share of `cases` that runs in this kernel when the kernels share them out: for what hardly depends on the kernel,
 * since machines take long. With one kernel, all of them.
 */
export function dealtTo<T>(kernel: TestKernel, cases: readonly T[]): readonly T[] {
  const folders = foldersOf();
  const own = folders.indexOf(kernel.folder);
  return cases.filter((_, n) => n % folders.length === own);
}

/** A temporary folder for images: in memory where there is room, since they are large and written at random. */
export function makeImageFolder(): string {
  let parent = tmpdir();
  try {
    const { bavail, bsize } = statfsSync('/dev/shm');
    if (bavail * bsize > 2 ** 32) parent = '/dev/shm';
  } catch {
    // No such filesystem on this machine.
  }
  return mkdtempSync(join(parent, 'pcache-kernel-'));
}

export interface GuestJob {
  readonly kernel: TestKernel;
  /** Image that becomes /dev/pmem0; its size a multiple of 2 MiB. */
  readonly cache: string;
  /** Image that becomes /dev/vda. */
  readonly backing: string;
  /** Bash commands after `prelude.sh`, whose functions they use. The exchange folder is /tmp/x. */
  readonly script: string;
  /** Further files for the exchange folder. */
  readonly files?: Readonly<Record<string, Uint8Array>>;
  /** Programs of `test/kernel/guest/` for the exchange folder, besides `replay`. */
  readonly programs?: readonly string[];
  /**
   * File of 2 GiB that is the machine's memory. Two ranges of it, of 608 MiB each, are persistent memory of the old kind,
   * /dev/pmem0 and /dev/pmem1; `cache` is /dev/pmem2 then.
   */
  readonly memory?: string;
  /** The script ends in a crash (`echo b >/proc/sysrq-trigger`). */
  readonly crashes?: boolean;
  readonly seconds?: number;
}

export interface GuestResult {
  /** The console, without terminal codes. */
  readonly output: string;
  /** What is in the exchange folder at the end, by name. */
  readonly files: ReadonlyMap<string, Buffer>;
}

/**
 * Boots a kernel with the two images, runs the script, and waits for the end.
 * @throws Error with the console's tail when the script fails, the kernel dies, or time is up
 */
export async function runGuest(job: GuestJob): Promise<GuestResult> {
  const exchange = mkdtempSync(join(tmpdir(), 'pcache-guest-'));
  try {
    writeFileSync(join(exchange, 'guest.sh'), `${readFileSync(PRELUDE, 'utf8')}\n${job.script}\n`);
    for (const name of ['replay', ...(job.programs ?? [])]) {
      copyFileSync(await guestProgram(name), join(exchange, name));
    }
    for (const [name, bytes] of Object.entries(job.files ?? {})) writeFileSync(join(exchange, name), bytes);
    const seconds = job.seconds ?? DEFAULT_SECONDS;
    let { status, output } = await boot(job, exchange, seconds);
    for (let tries = 1; tries < BOOT_TRIES && neverCameUp(status, output); tries++) {
      ({ status, output } = await boot(job, exchange, seconds));
    }
    const problem = problemOf(status, output, seconds, job.crashes ?? false);
    if (problem !== undefined) throw new Error(`${problem}\n${tailOf(output)}`);
    const files = new Map(readdirSync(exchange).map((name) => [name, readFileSync(join(exchange, name))]));
    return { output, files };
  } finally {
    rmSync(exchange, { recursive: true, force: true });
  }
}

function neverCameUp(status: number | null, output: string): boolean {
  return !output.includes(UP) && (PANIC.test(output) || status === null || status === TIMED_OUT);
}

function environmentOf({ memory }: GuestJob): NodeJS.ProcessEnv {
  if (memory === undefined) return process.env;
  return {
    ...process.env,
    PATH: `${LEGACY_PMEM}${delimiter}${process.env['PATH'] ?? ''}`,
    PCACHE_QEMU: findClient('qemu-system-x86_64'),
    PCACHE_GUEST_MEMORY: memory,
  };
}

async function boot(
  job: GuestJob,
  exchange: string,
  seconds: number,
): Promise<{ status: number | null; output: string }> {
  const command = [
    '-F',
    LOCK_PATH,
    'bash',
    join(job.kernel.folder, 'vm.sh'),
    job.cache,
    job.backing,
    exchange,
    String(seconds),
  ];
  // A group of its own, so that nothing of it is left when this process ends early.
  const env = environmentOf(job);
  const child = spawn('flock', command, { stdio: ['ignore', 'pipe', 'pipe'], detached: true, env });
  const kill = () => {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null)
      process.kill(-child.pid, 'SIGKILL');
  };
  process.once('exit', kill);
  let output = '';
  let booting: NodeJS.Timeout | undefined;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    booting ??= setTimeout(() => {
      if (!output.includes(UP)) kill();
    }, BOOT_MS);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
  try {
    const status = await new Promise<number | null>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', resolve);
    });
    return { status, output: stripVTControlCharacters(output).replaceAll('\r', '') };
  } finally {
    clearTimeout(booting);
    process.removeListener('exit', kill);
  }
}

function problemOf(status: number | null, output: string, seconds: number, crashes: boolean): string | undefined {
  if (neverCameUp(status, output)) return `the guest did not start, ${BOOT_TRIES} times`;
  if (status === TIMED_OUT) return `the guest was not done after ${seconds} s`;
  if (status !== 0) return `the virtual machine ended with status ${status}`;
  if (PANIC.test(output)) return 'the guest kernel died';
  const done = DONE.exec(output);
  if (crashes) return done === null ? undefined : 'the guest was to crash and did not';
  if (done === null) return 'the guest went down before its script was done';
  return done[1] === '0' ? undefined : `the guest script ended with status ${done[1]}`;
}

function tailOf(output: string): string {
  const lines = output.split('\n').filter((line) => line.trim() !== '');
  return lines
    .slice(-TAIL_LINES)
    .map((line) => `  | ${line}`)
    .join('\n');
}

const compiled = new Map<string, Promise<string>>();

/** `guest/NAME.c`, compiled once per test process. */
function guestProgram(name: string): Promise<string> {
  const program = compiled.get(name) ?? compileForGuest(name);
  compiled.set(name, program);
  return program;
}

async function compileForGuest(name: string): Promise<string> {
  const folder = imagesFolderOf(process.ppid); // goes with the run
  mkdirSync(folder, { recursive: true });
  const target = join(folder, `guest-${name}-${process.pid}`);
  const source = join(GUEST_SOURCES, `${name}.c`);
  const child = spawn('gcc', ['-O2', '-Wall', '-Wextra', '-pthread', '-o', target, source], { stdio: 'inherit' });
  const status = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (status !== 0) throw new Error(`guest/${name}.c does not compile; the compiler said why above`);
  return target;
}

/** What the guest printed as `name: value`, in order. */
export function printed(result: GuestResult, name: string): string[] {
  const prefix = `${name}: `;
  return result.output
    .split('\n')
    .filter((line) => line.startsWith(prefix))
    .map((line) => line.slice(prefix.length).trim());
}

/** The kernel's status lines that the guest printed, without the device's size and the target's name. */
export function statusLines(result: GuestResult): string[] {
  return printed(result, 'status').map((line) => line.replace(/^0 \d+ pcache /, ''));
}
