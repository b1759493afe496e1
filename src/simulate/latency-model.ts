/**
 * What the latency model is told of the devices: presets, what the user changes of them, and what `pcache bench`
 * measured. docs/simulation.md says what the numbers mean and what is not modelled.
 */
import { PcacheError } from '../engine/errors.js';

export interface PmemModel {
  /** Of every read and every write, beside the bytes. */
  readonly readNs: number;
  readonly writeNs: number;
  readonly readBytesPerSecond: number;
  readonly writeBytesPerSecond: number;
}

export interface BackingModel {
  /** Time a call takes beside its bytes. */
  readonly readNs: number;
  readonly writeNs: number;
  readonly flushNs: number;
  /** In addition where a call does not begin where the one before it ended: average over random places of the device. */
  readonly seekNs: number;
  /** The same to a neighbouring place; at most `seekNs`. In between, it grows with the root of the distance. */
  readonly shortSeekNs: number;
  /** Of all calls together. */
  readonly bytesPerSecond: number;
  /** Calls it works on at once; the others queue. */
  readonly depth: number;
}

export interface LatencyModel {
  readonly pmem: PmemModel;
  readonly backing: BackingModel;
}

/** Places are searched one by one. */
export const BACKING_DEPTH_MAX = 4096;

const MB = 1e6;
const US = 1e3;

const PMEM: PmemModel = {
  readNs: 1500,
  writeNs: 2000,
  readBytesPerSecond: 6000 * MB,
  writeBytesPerSecond: 2000 * MB,
};

/** Typical devices of their kind. */
export const BACKING_PRESETS = {
  // 7200 rpm: a seek and half a turn (4.15 ms) to get anywhere, a turn to empty the write cache.
  'hdd': {
    readNs: 100 * US,
    writeNs: 100 * US,
    flushNs: 8300 * US,
    seekNs: 12_000 * US,
    shortSeekNs: 5000 * US,
    bytesPerSecond: 200 * MB,
    depth: 1,
  },
  'sata-ssd': {
    readNs: 90 * US,
    writeNs: 60 * US,
    flushNs: 500 * US,
    seekNs: 0,
    shortSeekNs: 0,
    bytesPerSecond: 530 * MB,
    depth: 8,
  },
  'nvme': {
    readNs: 80 * US,
    writeNs: 20 * US,
    flushNs: 20 * US,
    seekNs: 0,
    shortSeekNs: 0,
    bytesPerSecond: 3000 * MB,
    depth: 64,
  },
} as const satisfies Record<string, BackingModel>;

export type BackingPreset = keyof typeof BACKING_PRESETS;
export const BACKING_PRESET_NAMES = Object.keys(BACKING_PRESETS) as readonly BackingPreset[];

/** What is known of pmem otherwise than by default. */
export type PmemChoice = { readonly [K in keyof PmemModel]?: PmemModel[K] };

/**
 * A preset with what is given put in its place. If only `seekNs` is given, its share that is `shortSeekNs` remains.
 */
export function makeModel(
  preset: BackingPreset,
  pmem: PmemChoice,
  backing: { readonly [K in keyof BackingModel]?: BackingModel[K] | undefined },
): LatencyModel {
  return { pmem: { ...PMEM, ...pmem }, backing: replaced(BACKING_PRESETS[preset], backing) };
}

function replaced(
  preset: BackingModel,
  given: { readonly [K in keyof BackingModel]?: BackingModel[K] | undefined },
): BackingModel {
  const seekNs = given.seekNs ?? preset.seekNs;
  const shortShare = preset.seekNs > 0 ? preset.shortSeekNs / preset.seekNs : 1;
  return {
    readNs: given.readNs ?? preset.readNs,
    writeNs: given.writeNs ?? preset.writeNs,
    flushNs: given.flushNs ?? preset.flushNs,
    seekNs,
    shortSeekNs: given.shortSeekNs ?? seekNs * shortShare,
    bytesPerSecond: given.bytesPerSecond ?? preset.bytesPerSecond,
    depth: given.depth ?? preset.depth,
  };
}

/**
 * What a result of `pcache bench --json` says of pmem: the bare copy gives the bytes a second, and what the
 * engine took on top of it the fixed part.
 * @param source what to call it in a message
 * @throws PcacheError USAGE for anything else
 */
export function pmemOfBench(json: string, source: string): PmemChoice {
  const { pattern, blockBytes, engineNs, limitNs } = benchFigures(json, source);
  const fixedNs = Math.max(0, Math.round(engineNs - limitNs));
  const bytesPerSecond = Math.round((blockBytes / limitNs) * 1e9);
  const isWrite = pattern.includes('write');
  if (isWrite === pattern.includes('read')) {
    throw new PcacheError('USAGE', `${source}: pattern ${pattern} mixes reads and writes; measure them one by one`);
  }
  return isWrite
    ? { writeNs: fixedNs, writeBytesPerSecond: bytesPerSecond }
    : { readNs: fixedNs, readBytesPerSecond: bytesPerSecond };
}

function benchFigures(json: string, source: string) {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    value = undefined;
  }
  const at = (path: readonly string[]) =>
    path.reduce<unknown>((from, name) => (from as Record<string, unknown> | null | undefined)?.[name], value);
  const pattern = at(['pattern']);
  const blockBytes = at(['blockBytes']);
  const engineNs = at(['engine', 'nsPerRequest']);
  const limitNs = at(['limit', 'nsPerRequest']);
  const isPositive = (number: unknown): number is number => typeof number === 'number' && number > 0;
  if (typeof pattern === 'string' && isPositive(blockBytes) && isPositive(engineNs) && isPositive(limitNs)) {
    return { pattern, blockBytes, engineNs, limitNs };
  }
  throw new PcacheError(
    'USAGE',
    `${source}: not a result of "pcache bench --json"; make one with --pattern randread or randwrite`,
  );
}
