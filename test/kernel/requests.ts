/**
 * Workloads with known content: a seed and a few numbers give the same requests in every process. Request n
 * has id `firstId + n`; a write leaves its id in every sector (see `stamps.ts`).
 *
 * A request belongs to a thread and touches only that thread's regions, so all writes of one sector are in
 * the order of their ids, however the threads interleave.
 */
import { Random } from '../../src/engine/sim/random.js';

export const KernelOp = { read: 0, write: 1, fua: 2, flush: 3 } as const;

export interface Request {
  /** A value of `KernelOp`. */
  readonly op: number;
  readonly thread: number;
  readonly sector: number;
  /** 0 for a flush. */
  readonly sectors: number;
  readonly id: number;
}

export interface Workload {
  /**
   * `mixed`: sizes from one sector to 1 MiB, reads, FUA, flushes, hot and cold places.
   * `fill`: very many writes of one sector and a few large ones, to bring a log to the end of its segment.
   */
  readonly kind: 'mixed' | 'fill';
  readonly seed: number;
  readonly count: number;
  readonly deviceSectors: number;
  readonly threads: number;
  readonly firstId: number;
}

/** 8 MiB, so that a request can cross the boundary of a subtree within its region. */
const REGION_SECTORS = 16_384;
const MAX_SECTORS = 2048;
/** One in so many writes of a fill is large: about as many bytes in large ones as in small ones. */
const FILL_LARGE_EVERY = 1500;
/** A fill stays with a few sectors for as long as a kset lasts, so that write-back has little to do. */
const FILL_RUN = 128;
const FILL_RUN_SECTORS = 8;

const isWrite = (op: number): boolean => op === KernelOp.write || op === KernelOp.fua;

/** Whether the request leaves its id in its sectors. */
export function writes(request: Request): boolean {
  return isWrite(request.op);
}

export function* requestsOf(workload: Workload): Generator<Request, void> {
  const random = new Random(workload.seed);
  const make = workload.kind === 'mixed' ? mixedRequest : fillRequest;
  for (let n = 0; n < workload.count; n++) yield make(workload, random, n);
}

function mixedRequest(workload: Workload, random: Random, n: number): Request {
  const thread = random.below(workload.threads);
  const id = workload.firstId + n;
  const dice = random.below(100);
  if (dice < 3) return { op: KernelOp.flush, thread, sector: 0, sectors: 0, id };
  const op = dice < 12 ? KernelOp.fua : dice < 35 ? KernelOp.read : KernelOp.write;
  return { op, thread, id, ...placeIn(workload, random, thread) };
}

function placeIn(workload: Workload, random: Random, thread: number): { sector: number; sectors: number } {
  const regions = Math.ceil(workload.deviceSectors / REGION_SECTORS);
  const own = Math.ceil((regions - thread) / workload.threads);
  const start = (thread + workload.threads * random.below(own)) * REGION_SECTORS;
  const end = Math.min(start + REGION_SECTORS, workload.deviceSectors);
  const hot = random.chance(0.5);
  const sector = start + random.below(hot ? Math.ceil((end - start) / 16) : end - start);
  return { sector, sectors: Math.min(lengthOf(random), end - sector) };
}

function lengthOf(random: Random): number {
  const dice = random.below(100);
  if (dice < 60) return random.between(1, 8);
  if (dice < 90) return random.between(8, 64);
  if (dice < 98) return random.between(64, 512);
  return random.between(512, MAX_SECTORS);
}

function fillRequest(workload: Workload, random: Random, n: number): Request {
  const common = { op: KernelOp.write, thread: 0, id: workload.firstId + n };
  if (n % FILL_LARGE_EVERY === FILL_LARGE_EVERY - 1) {
    return { ...common, sector: random.below(workload.deviceSectors - MAX_SECTORS + 1), sectors: MAX_SECTORS };
  }
  const runs = Math.floor(workload.deviceSectors / FILL_RUN_SECTORS);
  const run = Math.imul(Math.floor(n / FILL_RUN), 0x9e3779b1) >>> 0;
  return { ...common, sector: (run % runs) * FILL_RUN_SECTORS + random.below(FILL_RUN_SECTORS), sectors: 1 };
}

/** The list that the guest's `replay` reads. */
export function encodeRequests(requests: readonly Request[]): Uint8Array {
  const words = new Uint32Array(requests.length * 5);
  requests.forEach((one, n) => words.set([one.op, one.thread, one.sector, one.sectors, one.id], n * 5));
  return new Uint8Array(words.buffer);
}

/** The first `count` requests of a workload. */
export function firstRequests(workload: Workload, count: number): Request[] {
  return [...requestsOf({ ...workload, count: Math.min(count, workload.count) })];
}
